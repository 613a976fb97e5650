"""Communication among the processes of a run, which torchrun starts.

Every function also works in a run of one process. Small values are exchanged over the CPU (gloo), which waits
for no GPU.
"""

import functools
import gc
import importlib
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from utils.launch import ending_with_torchrun, launched_processes, restarts

_logger = logging.getLogger("transreid")
T = TypeVar("T")
# An evaluation or a check of all images may keep the first process busy while the others wait.
_PATIENCE = timedelta(hours=2)
_apart = ContextVar("apart", default=False)
# Parts of the errors of gloo and NCCL when a process has ended.
_GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exited or there was a network error",
)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Connect the processes that torchrun has started, while the context lasts; they end when torchrun does.

    Raises ValueError if torchrun's environment is incomplete, ConnectionError when another process has ended.
    """
    with ending_with_torchrun() as works, _connected(device):
        works.set()
        yield


@contextmanager
def _connected(device: torch.device) -> Iterator[None]:
    if launched_processes() == 1:
        yield
        return
    # Their functions' default arguments would keep the group, if it existed when they are imported. A group
    # that outlives this context has threads that may abort the process while Python ends.
    for module in ("torch.distributed.nn.functional", "torch.distributed.optim"):
        importlib.import_module(module)
    if device.type == "cuda" and not distributed.is_nccl_available():
        raise ValueError(
            f"{launched_processes()} processes on GPUs need NCCL, which this torch is built without, as on "
            "Windows; allowed: one process, or the CPU"
        )
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, place, count = next(distributed.rendezvous("env://", timeout=_PATIENCE))
        if int(os.environ.get("LOCAL_WORLD_SIZE", 0)) == count:
            # torchrun may keep its store over a restart, with addresses of dead processes in it. On several
            # machines the counts of restarts differ, so they cannot share a prefix.
            store = distributed.PrefixStore(f"start {restarts()}", store)
        distributed.init_process_group(backend, store=store, rank=place, world_size=count, timeout=_PATIENCE)
    except RuntimeError as error:
        raise ConnectionError(f"the processes of this run cannot connect: {_in_one_line(error)}") from error
    try:
        yield
    except BaseException as error:
        # A DistributedDataParallel that still exists when Python ends may abort the process.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        if not (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _GONE)):
            raise
        raise ConnectionError(
            f"another process of this run has ended; its own error says why ({_in_one_line(error)})"
        ) from error
    gc.collect()
    # Not after an error: others may wait for this process, and wake when it ends.
    distributed.destroy_process_group()


def world_size() -> int:
    """Number of processes of this run."""
    return distributed.get_world_size() if _together() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if _together() else 0


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return rank() == 0


def share(count: int) -> range:
    """Indices of this process's part of `count` things, in order; sizes of parts differ by at most one."""
    first, last = (count * place // world_size() for place in (rank(), rank() + 1))
    return range(first, last)


def any_process(*flags: bool) -> list[bool]:
    """Whether each flag is set in at least one process; all processes must call it together."""
    if not _together():
        return list(flags)
    seen = torch.tensor(flags, dtype=torch.uint8)
    distributed.all_reduce(seen, distributed.ReduceOp.MAX)
    return seen.bool().tolist()


def from_first(value: T | None) -> T:
    """The first process's value, in every process; the others may give None."""
    values: list[Any] = [value]
    if not _together():
        return values[0]
    distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def gather_objects(value: T) -> list[T]:
    """The values of all processes by rank, in every process."""
    if not _together():
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows (n, …) of all processes, of which n may differ; passes no gradient."""
    if not _together():
        return rows
    counts = gather_objects(len(rows))
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    return torch.cat([part[:count] for part, count in zip(_gather(padded), counts, strict=True)])


def gather_batch(rows: Tensor) -> Tensor:
    """Concatenate the rows (n, …) of all processes, with the same n in all; passes gradients.

    Each process then computes the loss of the whole batch. The gradient of a row is summed over processes, so
    the mean over processes, which DistributedDataParallel takes, is the gradient of the batch.
    """
    if not _together():
        return rows
    return _GatherBatch.apply(rows)


def share_buffers(module: nn.Module) -> None:
    """Copy the first process's buffers to all processes."""
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
        _warn_of_separate_norms(count)


@functools.cache  # once, not in every stage
def _warn_of_separate_norms(count: int) -> None:
    _logger.warning("on the CPU %d batch norms see only their process's part of a batch", count)


def _in_one_line(error: BaseException) -> str:
    """The end of a message, which has the reason."""
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


@contextmanager
def apart() -> Iterator[None]:
    """Within, this process communicates with no other one, as in a run of one process."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized() and not _apart.get()
