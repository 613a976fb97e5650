"""Time and peak memory of one piece of work, in a process of its own.

Peak memory is the process's resident memory, so whatever holds it counts: tensors, arrays, lists, libraries.
"""

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_PROCESS = Path("/proc/self")


class Measured(NamedTuple):
    """Wall time in seconds and peak memory in MB (10^6 bytes) above what was held before."""

    seconds: float
    megabytes: float


def measure(work: Callable[[], Any]) -> tuple[Any, Measured]:
    """Do the work once. Raises OSError where the system does not tell a process's peak (it takes Linux)."""
    gc.collect()
    (_PROCESS / "clear_refs").write_text("5")  # the peak so far is forgotten
    before = _resident("VmRSS")
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    return result, Measured(seconds, (_resident("VmHWM") - before) / 1e6)


def run_alone(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What `python -m module arguments` prints as JSON in its last line. Raises CalledProcessError."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def median_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run whose seconds are the (lower) median, with the number of runs."""
    middle = statistics.median_low(run["seconds"] for run in runs)
    return next(run for run in runs if run["seconds"] == middle) | {"runs": len(runs)}


def _resident(name: str) -> int:
    status = (_PROCESS / "status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(kilobytes) * 1024
