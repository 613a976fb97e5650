"""A stage of training as data: what is minimised, on which batches, how fast, how long."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from processor.engine.objective import Objective, TrainingBatch


class Loader(Protocol):
    """Batches of an epoch; the length is the number reported in the log."""

    def __iter__(self) -> Iterator[TrainingBatch]: ...

    def __len__(self) -> int: ...


class EpochSampler(Protocol):
    """Whatever draws the order of an epoch."""

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Make the next pass the one of this epoch, from batch `start` on (0 is the first)."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long and how fast a stage runs: what a recipe is given and turns into a Stage.

    `schedule` maps the progress, the epoch (from 1) plus the share of it that is done, to a rate, at every
    step. Periods count epochs, `log_period` iterations; `eval_period` None means that the stage is not
    evaluated. `compile` sends its steps through torch.compile.
    """

    epochs: int
    batch_size: int
    schedule: Callable[[float], float]
    make_optimizer: Callable[[Iterable[tuple[str, nn.Parameter]]], torch.optim.Optimizer]
    log_period: int
    checkpoint_period: int
    eval_period: int | None = None
    compile: bool = False


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe; its checkpoints are named `{model}{suffix}_{epoch}.pth`.

    `may_skip` says that an epoch without a batch is no error.
    """

    name: str
    objective: Objective
    loader: Loader
    sampler: EpochSampler
    optimizer: torch.optim.Optimizer
    plan: Plan
    suffix: str = ""
    may_skip: bool = False
