"""Whether memory grows while a run goes on for long."""

import math
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.faults.rows import Row, judge, status_problem, unless
from benchmarks.faults.runs import Bench, phase_of
from benchmarks.faults.torchrun import descendants
from datasets.drawn import draw_market1501

_SAMPLE = 3.0  # seconds from one sample to the next
_WARM_UP = 120.0  # seconds that do not count
_FLAT = 5.0  # MB per hour
_FOR_EVER = 1_000_000
_CHANGED = {
    "DATALOADER.NUM_WORKERS": 2,
    "SOLVER.SAVE_EVERY_MIN": 0.5,
    "SOLVER.STAGE1.MAX_EPOCHS": 2,
    "MAIN.MAX_EPOCHS": _FOR_EVER,
    "MAIN.CHECKPOINT_PERIOD": 20,
    "MAIN.EVAL_PERIOD": 20,
    "SOLVER.KEEP": 2,
}


class Slope(NamedTuple):
    """Of a straight line through samples, with its standard error; both per unit of time."""

    value: float
    error: float


def fit_slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares; the error is that of independent samples. Raises ValueError for less than three."""
    if len(times) < 3:
        raise ValueError(f"{len(times)} samples; allowed: at least 3")
    x, y = np.asarray(times, float), np.asarray(values, float)
    x, y = x - x.mean(), y - y.mean()
    value = float(x @ y / (x @ x))
    rest = y - value * x
    return Slope(value, math.sqrt(float(rest @ rest) / (len(x) - 2) / float(x @ x)))


def is_flat(slope: Slope) -> bool:
    """Whether memory (MB per hour) does not grow, as far as can be told."""
    return slope.value < max(_FLAT, 2 * slope.error)


def memory(pid: int) -> float:
    """MB of a process and all that it has started, without the files (libraries) that are mapped.

    Of files a process counts a share, which changes with what else runs on the machine; of its own pages it
    counts those that it shares with the process it was forked from like others, since they part in time.
    """
    total = 0
    for process in (pid, *descendants(pid)):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        sizes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
        total += sizes.get("Anonymous:", 0) + sizes.get("Pss_Shmem:", 0)
    return total * 1024 / 1e6


def soak(bench: Bench) -> Iterator[Row]:
    """Train on drawn people for some minutes and look at the memory."""
    root = bench.folder("people")
    draw_market1501(root, train_ids=32, test_ids=16, images_per_camera=2, cameras=2, seed=bench.seed)
    child = bench.start(bench.folder("soak"), _CHANGED | {"DATASETS.ROOT_DIR": root})
    if not child.wait_until(lambda watch: phase_of(watch) == "stage2"):
        child.stop()
        raise RuntimeError(f"the run did not reach stage 2: {child.wait().err[-3000:]}")
    started, times, values = time.monotonic(), [], []
    while (now := time.monotonic() - started) < 60 * bench.soak and child.process.is_alive():
        times.append(now)
        values.append(memory(child.process.pid))
        time.sleep(_SAMPLE)
    steps = child.watch.steps
    child.send(signal.SIGTERM)
    ended = child.wait()
    begin = min(_WARM_UP, 30 * bench.soak)
    kept = [(at / 3600, value) for at, value in zip(times, values, strict=True) if at >= begin]
    slope = fit_slope(*zip(*kept, strict=True))
    told = f"{slope.value:+.1f} ± {slope.error:.1f} MB per hour at {values[-1]:.0f} MB"
    yield judge(
        "soak",
        f"{bench.soak:g} minutes of training with 2 loader processes",
        (f"{steps:,} iterations", status_problem(ended, 128 + signal.SIGTERM)),
        (f"memory flat, {told}", unless(is_flat(slope), f"memory grows, {told}")),
    )
