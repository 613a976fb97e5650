"""Memory: the bytes of tensors that are alive at a time, and those that a device has free."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Of a container, by control groups version 2 and version 1: folder, files of its limit and its use, and the
# line of memory.stat that counts files in memory, which make room when it is needed.
_GROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "cache"),
)


def free_memory(device: torch.device) -> int:
    """Bytes that a device can still give: a GPU, or for the CPU the machine or the container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [psutil.virtual_memory().available]
    for folder, *names in _GROUPS:
        try:
            free.append(_free_in_group(Path(folder), *names))
        except (OSError, ValueError, KeyError):  # no such group, or no limit, which is 'max'
            continue
    return max(min(free), 0)


def _free_in_group(folder: Path, limit: str, used: str, files: str) -> int:
    stat = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
    return (
        int((folder / limit).read_text("ascii")) - int((folder / used).read_text("ascii")) + int(stat[files])
    )


def own_memory() -> int:
    """Bytes of the machine's memory that this process holds."""
    return psutil.Process().memory_info().rss


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made within that are alive: `now`, and the most so far in `peak`.

    `weights` are the shapes of weights, whose gradients from several uses are added up in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.weights: set[torch.Size] = set()
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation of torch, and count what it gives that has memory of its own."""
        if (
            func is torch.ops.aten.add.Tensor
            and not torch.is_grad_enabled()
            and args[0].shape in self.weights
        ):
            # Autograd adds in place, except to tensors that are looked at.
            func = torch.ops.aten.add_.Tensor
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self._count(each.untyped_storage())
        return result

    def ignore(self, module: nn.Module) -> None:
        """Do not count the weights and buffers of a module that was made outside."""
        tensors = (*module.parameters(), *module.buffers())
        self._known.update(each.untyped_storage()._cdata for each in tensors)

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place not in self._known:
            self._known.add(place)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size
