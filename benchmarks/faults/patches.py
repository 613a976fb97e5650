"""What goes wrong in a run: changes of the process that it has to itself, and a note of where it is."""

import ctypes
import functools
import logging
import math
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from types import ModuleType
from typing import Any

from processor import make_evaluation
from processor.engine import Stage, Step, drive, resume, trackers
from processor.engine import journal as records
from processor.engine import loop as engine

_FULL = Path("/dev/full")
PHASES = ("start-up", "stage1", "stage2", "baseline", "save", "evaluation")


class Watch(ctypes.Structure):
    """Where a run is, in memory that the process shares with the one that watches it.

    `steps` of the optimizer have begun in the stage in work, `saves` of `last.pt`, in this process.
    """

    _fields_ = (("phase", ctypes.c_int), ("steps", ctypes.c_int), ("saves", ctypes.c_int))


Patch = Callable[[Watch], None]


def watch_run(watch: Watch) -> None:
    """Have the run note where it is."""

    def fit(stage: Stage, *args: Any, original: Callable[..., Any] = drive.fit) -> Any:
        watch.steps = 0
        with _Phase(watch, stage.name):
            return original(stage, *args)

    def train_step(*args: Any, original: Callable[..., Any] = engine.train_step) -> Any:
        watch.steps += 1
        return original(*args)

    def save(*args: Any, original: Callable[..., Any] = resume.save_torch) -> None:
        watch.saves += 1
        original(*args)

    drive.fit, engine.train_step, resume.save_torch = fit, train_step, save
    _note(watch, resume, "save_torch", "save")
    _note(watch, records, "save_torch", "save")
    _note(watch, make_evaluation, "extract_streams", "evaluation")
    _note(watch, make_evaluation, "evaluate_as_configured", "evaluation")


class _Phase:
    def __init__(self, watch: Watch, name: str) -> None:
        self.watch, self.number = watch, PHASES.index(name)

    def __enter__(self) -> None:
        self.before, self.watch.phase = self.watch.phase, self.number

    def __exit__(self, *error: object) -> None:
        self.watch.phase = self.before


def _note(watch: Watch, module: ModuleType, name: str, phase: str) -> None:
    original = getattr(module, name)

    @functools.wraps(original)
    def noted(*args: Any, **options: Any) -> Any:
        with _Phase(watch, phase):
            return original(*args, **options)

    setattr(module, name, noted)


# ---- faults


def slow_steps(seconds: float) -> Patch:
    """Every step takes that much longer."""
    return _before_step(lambda stage, number: time.sleep(seconds))


def at_step(stage_name: str, step: int, action: Callable[[], None]) -> Patch:
    """Do something just before a step (from 1) of a stage."""

    def act(stage: Stage, number: int) -> None:
        if (stage.name, number) == (stage_name, step):
            action()

    return _before_step(act)


def kill_workers() -> None:
    """Kill the processes that load images for this one."""
    for process in active_children():
        os.kill(process.pid, signal.SIGKILL)


def bad_loss(stage_name: str, term: str, step: int) -> Patch:
    """One term of the loss is not a number in a step of a stage."""

    def patch(watch: Watch) -> None:
        original = engine.train_step

        def train_step(stage: Stage, batch: Any, precision: Any, forward: Any = None) -> Any:
            def poisoned(batch: Any) -> Step:
                done = (forward or stage.objective)(batch)
                return done._replace(losses=done.losses | {term: done.losses[term] * math.nan})

            here = (stage.name, watch.steps + 1) == (stage_name, step)
            return original(stage, batch, precision, poisoned if here else forward)

        engine.train_step = train_step

    return patch


def full_disk_for_last(save: int) -> Patch:
    """From that save of `last.pt` on, no file can grow above a part of its size."""

    def patch(watch: Watch) -> None:
        _before(resume, "save_torch", lambda *_: watch.saves + 1 >= save and _limit_files(1 << 19))

    return patch


def full_disk_for_checkpoint(watch: Watch) -> None:
    """When a checkpoint of stage 2 is written, no file can grow above a part of its size."""
    _before(records, "save_torch", lambda _, path: "stage1" not in str(path) and _limit_files(1 << 19))


def full_disk_for_metrics(watch: Watch) -> None:
    """The third line of `metrics.jsonl` finds room for its first bytes only."""
    original, lines = trackers.append_line, []

    def append_line(path: Path, line: str) -> None:
        lines.append(line)
        if len(lines) < 3:
            original(path, line)
        else:
            _with_limit(path.stat().st_size + 9, lambda: original(path, line))

    trackers.append_line = append_line


def full_disk_for_log(watch: Watch) -> None:
    """From the first step on, the log is on a device that is always full."""
    original, full = logging.FileHandler.emit, _FULL.open("w", encoding="utf-8")

    def emit(handler: logging.FileHandler, record: logging.LogRecord) -> None:
        if watch.steps:
            handler.setStream(full)
        original(handler, record)

    logging.FileHandler.emit = emit


def killed_at_save(save: int) -> Patch:
    """SIGKILL in the moment in which that save of `last.pt` would begin."""

    def patch(watch: Watch) -> None:
        _before(
            resume,
            "save_torch",
            lambda *_: watch.saves + 1 == save and os.kill(os.getpid(), signal.SIGKILL),
        )

    return patch


def _before(module: ModuleType, name: str, action: Callable[..., object]) -> None:
    original = getattr(module, name)

    def acting(*args: Any) -> Any:
        action(*args)
        return original(*args)

    setattr(module, name, acting)


def _before_step(action: Callable[[Stage, int], None]) -> Patch:
    """`action(stage, number)` before each step, in which the watch may already be told of it."""

    def patch(watch: Watch) -> None:
        original = engine.train_step

        def train_step(stage: Stage, *args: Any) -> Any:
            action(stage, watch.steps + 1)
            return original(stage, *args)

        engine.train_step = train_step

    return patch


def _limit_files(size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def _with_limit(size: int, write: Callable[[], None]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    _limit_files(size)
    try:
        write()
    finally:
        _limit_files(before)
