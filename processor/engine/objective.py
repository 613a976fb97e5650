"""The objective of a training method: a module from a batch to named losses."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor, device, nn

from processor.engine.signs import Sign
from utils.precision import Precision


class Step(NamedTuple):
    """Scalars of one batch by name: `losses` are summed and minimised, `report` is only logged.

    `samples` are in the batch, in all processes together: losses are those of the whole batch everywhere.
    """

    losses: dict[str, Tensor]
    report: dict[str, Tensor]
    samples: int


class TrainingBatch(Protocol):
    """The part of a batch that the engine needs."""

    @property
    def pids(self) -> Tensor:
        """Identities (B,)."""
        ...

    @property
    def paths(self) -> Sequence[str]:
        """B paths, to name in errors."""
        ...

    def to(self, device: device) -> "TrainingBatch":
        """The batch on another device."""
        ...


class Objective(nn.Module):
    """A model together with what is minimised on it. The loop knows nothing else of a method.

    `forward(batch) -> Step`. The hooks are for methods that keep something up to date next to the weights, in
    parameters or buffers: these are what a run that is resumed finds again.
    """

    def prepare(self, precision: Precision) -> None:
        """Called once, on the device, before the first epoch: for what pays only there."""

    def signs(self) -> Sequence[Sign]:
        """Means of losses and report by which it is known that nothing is learned."""
        return ()

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first batch of an epoch (1-based), and not where a run is resumed within one."""

    def after_step(self) -> None:
        """Called after the optimizer's step."""
