"""Whether the memory of a long run grows."""

import contextlib
import signal
import time
from collections.abc import Iterator

import psutil
from scipy.stats import linregress

from benchmarks.faults.rows import Row, judge, status_problem, unless
from benchmarks.faults.runs import Bench
from datasets.drawn import draw_market1501

_SAMPLE = 3.0  # seconds between samples
_WARM_UP = 120.0  # seconds at the start without samples
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


def is_flat(slope: float, error: float) -> bool:
    """Whether memory (MB per hour) does not grow, within the standard error of the slope."""
    return slope < max(_FLAT, 2 * error)


def memory(pid: int) -> float:
    """Resident MB of a process and all that it has started."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total / 1e6


def soak(bench: Bench) -> Iterator[Row]:
    """Train on drawn people for some minutes and measure the memory."""
    root = bench.folder("people")
    draw_market1501(root, train_ids=32, test_ids=16, images_per_camera=2, cameras=2, seed=bench.seed)
    child = bench.start(bench.folder("soak"), _CHANGED | {"DATASETS.ROOT_DIR": root})
    if not child.wait_until(lambda watch: watch.phase == "stage2"):
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
    fit = linregress(*zip(*kept, strict=True))
    fact = f"{fit.slope:+.1f} ± {fit.stderr:.1f} MB per hour at {values[-1]:.0f} MB"
    yield judge(
        "soak",
        f"{bench.soak:g} minutes of training with 2 loader processes",
        (f"{steps:,} iterations", status_problem(ended, 128 + signal.SIGTERM)),
        (f"memory flat, {fact}", unless(is_flat(fit.slope, fit.stderr), f"memory grows, {fact}")),
    )
