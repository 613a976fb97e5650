"""Faults within a toy run, and its position, noted while it trains.

Both are hooks on the stages that a method yields: a method is data, so the programs' code stays as it is.
"""

import ctypes
import dataclasses
import logging
import math
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import active_children
from typing import Any

from torch import nn

from processor import Method
from processor.engine import Run, Stage, Step

PHASES = ("start-up", "stage1", "stage2", "baseline", "save", "evaluation")


class Watch(ctypes.Structure):
    """Position of a run, in memory shared with the process that watches it.

    `steps` of the optimizer have begun in the current stage, in this process.
    """

    _fields_ = (("_phase", ctypes.c_int), ("steps", ctypes.c_int))

    @property
    def phase(self) -> str:
        """One of PHASES."""
        return PHASES[self._phase]

    @phase.setter
    def phase(self, phase: str) -> None:
        self._phase = PHASES.index(phase)


Fault = Callable[[Watch, Stage, Run], None]  # called with each stage before it is trained


def with_faults(method: Method, watch: Watch, faults: Sequence[Fault]) -> Method:
    """The method, whose runs note their position in `watch` and meet `faults`."""

    def stages(cfg: Any, parts: Any, run: Run) -> Iterator[Stage]:
        for stage in method.stages(cfg, parts, run):
            _follow(watch, stage, run)
            for fault in faults:
                fault(watch, stage, run)
            yield stage

    return dataclasses.replace(method, stages=stages)


def _follow(watch: Watch, stage: Stage, run: Run) -> None:
    watch.phase, watch.steps = stage.name, 0
    save = run.saver.save

    def begin_step(*_: object) -> None:
        watch.phase = stage.name
        watch.steps += 1

    def begin_forward(model: nn.Module, *_: object) -> None:
        if not model.training:
            watch.phase = "evaluation"

    def noted_save(*args: Any) -> None:
        before, watch.phase = watch.phase, "save"
        save(*args)
        watch.phase = before

    stage.objective.register_forward_pre_hook(begin_step)
    run.model.register_forward_pre_hook(begin_forward)
    run.saver.save = noted_save


# ---- faults


def slow_steps(seconds: float) -> Fault:
    """Every step takes that much longer."""
    return lambda _, stage, run: _before_step(stage, lambda: time.sleep(seconds))


def at_step(stage_name: str, step: int, action: Callable[[], object]) -> Fault:
    """Do something when a step (from 1) of a stage begins."""

    def fault(watch: Watch, stage: Stage, run: Run) -> None:
        if stage.name == stage_name:
            _before_step(stage, lambda: action() if watch.steps == step else None)

    return fault


def _before_step(stage: Stage, action: Callable[[], object]) -> None:
    def hook(*_: object) -> None:
        action()

    stage.objective.register_forward_pre_hook(hook)


def kill_workers() -> None:
    """Kill the processes that load images for this one."""
    for process in active_children():
        process.kill()
        process.join()


def bad_loss(stage_name: str, term: str, step: int) -> Fault:
    """A term of the loss is NaN in one step of a stage."""

    def fault(watch: Watch, stage: Stage, run: Run) -> None:
        def poison(objective: nn.Module, batch: Any, done: Step) -> Step:
            if (stage.name, watch.steps) != (stage_name, step):
                return done
            return done._replace(losses=done.losses | {term: done.losses[term] * math.nan})

        stage.objective.register_forward_hook(poison)

    return fault


def killed_before_save(watch: Watch, stage: Stage, run: Run) -> None:
    """SIGKILL when `last.pt` would first be saved."""
    run.saver.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


def limit_files() -> None:
    """From now on no file can grow above a part of the size of a checkpoint, as on a full disk."""
    _limit_files(1 << 19)


def full_disk_for_metrics(watch: Watch, stage: Stage, run: Run) -> None:
    """The third line of `metrics.jsonl` finds room for its first bytes only."""
    (tracker, *_), path = run.saver.trackers, run.output_dir / "metrics.jsonl"
    log = tracker.log

    def limited(record: Any) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if record["epoch"] == 3:
            _limit_files(path.stat().st_size + 9)
        try:
            log(record)
        finally:
            _limit_files(before)

    tracker.log = limited


def full_disk_for_log(watch: Watch, stage: Stage, run: Run) -> None:
    """The log is on a device that is always full."""
    for handler in logging.getLogger("transreid").handlers:
        if isinstance(handler, logging.FileHandler):
            handler.setStream(open("/dev/full", "w", encoding="utf-8"))  # noqa: SIM115


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
