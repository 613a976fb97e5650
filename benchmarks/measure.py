"""Time, peak memory and arithmetic of a piece of work.

Peak memory is the process's resident memory, so whatever holds it counts: tensors, arrays, lists, libraries;
on a GPU it is what torch has allocated there.
"""

import ctypes
import gc
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
_PROCESS = Path("/proc/self")
_PRODUCTS = 9  # of which the rate is the median
_MMAP_THRESHOLD = -3  # mallopt's name of the size from which blocks are mapped and unmapped one by one
_LEAST_MAPPED = 1 << 16  # bytes
_SIDES = {"cpu": 2048, "cuda": 8192}


class Measured(NamedTuple):
    """Wall time in seconds and peak memory in MB (10^6 bytes) above what was held before."""

    seconds: float
    megabytes: float


def measure(work: Callable[[], Any], device: torch.device | None = None) -> tuple[Any, Measured]:
    """Do the work once; on a GPU, its memory counts instead of the process's.

    Raises OSError where the system does not tell a process's peak (it takes Linux).
    """
    on_gpu = device is not None and device.type == "cuda"
    _release_memory()
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        (_PROCESS / "clear_refs").write_text("5")  # the peak so far is forgotten
        before = _resident("VmRSS")
    started = time.perf_counter()
    result = work()
    if on_gpu:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _resident("VmHWM")
    return result, Measured(seconds, (peak - before) / 1e6)


def map_blocks() -> None:
    """Have the C library (glibc) give every block of 64 KiB or more back to the system when it is freed.

    Else freed blocks leave holes in its heap that count as the process's memory, more or less by chance. To
    be called before the blocks are allocated, which it slows down.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _LEAST_MAPPED)


def time_each(work: Callable[[], Any], times: int, device: torch.device) -> list[float]:
    """Seconds of each of `times` runs, one after the other.

    A GPU's are those between marks in its queue: to wait for it after each run would keep the processor from
    working ahead, as it does in a training loop.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
        marks[0].record()
        for mark in marks[1:]:
            work()
            mark.record()
        torch.cuda.synchronize(device)
        return [first.elapsed_time(second) / 1e3 for first, second in itertools.pairwise(marks)]
    clock = [time.perf_counter()]
    for _ in range(times):
        work()
        clock.append(time.perf_counter())
    return [second - first for first, second in itertools.pairwise(clock)]


def device_name(device: torch.device) -> str:
    """'CPU', or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """FLOP/s of the product of two square matrices of `side` rows, the median of several.

    It is what the machine can reach; the default side is large enough for that.
    """
    side = side or _SIDES[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.mm(a, b)  # libraries prepare themselves
    seconds = time_each(lambda: torch.mm(a, b, out=product), _PRODUCTS, device)
    return 2 * side**3 / statistics.median(seconds)


def count_flops(work: Callable[[], Any]) -> int:
    """Multiplications and additions of the matrix products and convolutions that the work does.

    Forward, backward and what is recomputed for it; masked products count as full ones. Attention is done as
    two plain products, since fused kernels are counted in other ways or not at all, and the one for a
    gradient would count the scores that it computes again.
    """
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            work()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
    return counter.get_total_flops()


def run_alone(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What `python -m module arguments` prints as JSON in its last line. Raises CalledProcessError."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def median_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run whose seconds are the (lower) median, with the number of runs."""
    middle = statistics.median_low(run["seconds"] for run in runs)
    return next(run for run in runs if run["seconds"] == middle) | {"runs": len(runs)}


def _release_memory() -> None:
    """Give back what is freed: memory that the C library keeps for later would hide a peak within it."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):  # of glibc
        library.malloc_trim(0)


def _resident(name: str) -> int:
    status = (_PROCESS / "status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(kilobytes) * 1024
