"""Processes of one run, started by torchrun: who is who, and what they tell each other.

Every function works in a run of one process, too, where there is nobody to talk to. Small facts go over the
CPU (gloo), so that no GPU is waited for.
"""

import gc
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

_logger = logging.getLogger("transreid")
T = TypeVar("T")
# An evaluation or a check of all images may keep the first process busy while the others wait.
_PATIENCE = timedelta(hours=2)
# What gloo and NCCL say of it.
_GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exited or there was a network error",
)


def launched_processes() -> int:
    """How many processes torchrun says that this run has; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """Which of this machine's processes this is, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0))


def restarts() -> int:
    """How often torchrun has started this run anew after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def launch_name() -> str:
    """What all attempts of one torchrun have in common, as far as this process can tell."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"process {os.getppid()}" if name in ("", "none") else name


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, for as long as the context lasts; alone, do nothing.

    Raises ValueError where torchrun's environment is incomplete, ConnectionError when a process is gone.
    """
    if launched_processes() == 1:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, place, count = next(distributed.rendezvous("env://", timeout=_PATIENCE))
        if int(os.environ.get("LOCAL_WORLD_SIZE", 0)) == count:
            # torchrun may keep its store when it starts a run anew, with addresses of dead processes in it.
            # Machines of one run do not count their starts alike.
            store = distributed.PrefixStore(f"start {restarts()}", store)
        distributed.init_process_group(backend, store=store, rank=place, world_size=count, timeout=_PATIENCE)
    except RuntimeError as error:
        raise ConnectionError(
            f"the processes of this run do not find each other: {_in_one_line(error)}"
        ) from error
    try:
        yield
    except BaseException as error:
        # A DistributedDataParallel that is alive when Python ends aborts the process now and then.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        if not (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _GONE)):
            raise
        raise ConnectionError(
            f"another process of this run has ended, its error tells why ({_in_one_line(error)})"
        ) from error
    gc.collect()
    # Not after an error, when others may still wait for this process: its end is what wakes them.
    distributed.destroy_process_group()


def world_size() -> int:
    """Processes of this run."""
    return distributed.get_world_size() if _together() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if _together() else 0


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return rank() == 0


def share(count: int) -> range:
    """This process's part of `count` things: an equal one, up to one, in their order."""
    first, last = (count * place // world_size() for place in (rank(), rank() + 1))
    return range(first, last)


def any_process(*flags: bool) -> list[bool]:
    """Each flag as it is in at least one process; all processes must ask at the same time."""
    if not _together():
        return list(flags)
    seen = torch.tensor(flags, dtype=torch.uint8)
    distributed.all_reduce(seen, distributed.ReduceOp.MAX)
    return seen.bool().tolist()


def from_first(value: T) -> T:
    """The first process's value, in every process."""
    if not _together():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def gather_objects(value: T) -> list[T]:
    """The values of all processes, in their order, in every process."""
    if not _together():
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (n, …) of all processes, one after the other; n may differ, and no gradient passes."""
    if not _together():
        return rows
    counts = gather_objects(len(rows))
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    return torch.cat([part[:count] for part, count in zip(_gather(padded), counts, strict=True)])


def gather_batch(rows: Tensor) -> Tensor:
    """The rows (n, …) of all processes, one after the other, where n is the same in all; gradients pass.

    Each process then has the loss of the whole batch, and the gradient of a row is the sum of what all of
    them say of it: the mean over processes, which DistributedDataParallel takes, is the batch's gradient.
    """
    if not _together():
        return rows
    return _GatherBatch.apply(rows)


def share_buffers(module: nn.Module) -> None:
    """Give every process the first one's buffers."""
    if _together():
        for buffer in module.buffers():
            if buffer.numel():
                distributed.broadcast(buffer, src=0)


def synchronise_batch_norms(module: nn.Module, device: torch.device) -> None:
    """Let batch norms within a module see the batches of all processes, on a GPU by torch's SyncBatchNorm.

    Parameters, buffers and their names stay. Torch has none for the CPU, where a warning counts the norms.
    """
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return
    count = sum(isinstance(child, nn.modules.batchnorm._BatchNorm) for child in module.modules())
    if count and is_first():
        _logger.warning(
            "%d batch norms see only their process's part of a batch, as always on the CPU", count
        )


def _in_one_line(error: BaseException) -> str:
    """The end of a message, which says most."""
    return " ".join(str(error).split())[-300:]


def _gather(rows: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return parts


# torch.distributed.nn.functional has it, too, but is deprecated without a successor in all supported versions
# of torch.
class _GatherBatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.mine = slice(rank() * len(rows), (rank() + 1) * len(rows))
        return torch.cat(_gather(rows))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[ctx.mine]


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
