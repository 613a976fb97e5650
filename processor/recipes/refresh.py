"""Objectives that renew something before every epoch from one extraction of all training images."""

import functools
import logging
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from loss import PrototypeMemory
from processor.engine import Objective, Sign, Step, TrainingBatch
from retrieval import FeatureSet
from utils.precision import Precision

_logger = logging.getLogger("transreid.train")
Images = Callable[[], FeatureSet]
"""Gives features (N, D) of all training images, which are extracted when they are first asked for."""


class Renewed(nn.Module):
    """Something that is renewed from features before every epoch; its state is in its buffers."""

    def renew(self, epoch: int, images: Images) -> Images:
        """Renew from the features of all training images; return them as the next part is to see them."""
        raise NotImplementedError

    def report(self) -> dict[str, Tensor]:
        """Scalars to report with each step."""
        return {}


class Refreshed(Objective):
    """An objective with parts that are renewed, in turn, before every epoch.

    Args:
        objective: what is minimised.
        extract_train: gives features after the neck of all training images, with pids 0..C-1 or -1.
        parts: prototypes, clusters, a graph; what one returns, the next one sees.
    """

    def __init__(self, objective: Objective, extract_train: Images, parts: Sequence[Renewed]) -> None:
        super().__init__()
        self.objective, self.extract_train, self.parts = objective, extract_train, nn.ModuleList(parts)
        self._in_turn = tuple(parts)

    def prepare(self, precision: Precision) -> None:
        """Prepare the objective."""
        self.objective.prepare(precision)

    def signs(self) -> Sequence[Sign]:
        """Those of the objective."""
        return self.objective.signs()

    def begin_epoch(self, epoch: int) -> None:
        """Renew every part, with one extraction for all that ask for it."""
        images: Images = functools.cache(self.extract_train)
        for part in self._in_turn:
            images = part.renew(epoch, images)
        self.train()
        self.objective.begin_epoch(epoch)

    def forward(self, batch: TrainingBatch) -> Step:
        """The objective's step, with what the parts report."""
        step = self.objective(batch)
        more = {name: value for part in self._in_turn for name, value in part.report().items()}
        return step._replace(report=step.report | more)

    def after_step(self) -> None:
        """Let the objective update what it keeps."""
        self.objective.after_step()


class Prototypes(Renewed):
    """A prototype memory, rebuilt from the mean features of each identity (Li, Gong, arXiv 2310.17218)."""

    def __init__(self, memory: PrototypeMemory) -> None:
        super().__init__()
        self.memory = memory

    def renew(self, epoch: int, images: Images) -> Images:
        """Rebuild the memory; log the published lines."""
        found = images()
        self.memory.rebuild(found.features, found.pids)
        _logger.info("Memory has %d classes.", len(self.memory.prototypes))
        _logger.info("Create memory bank with shape = %s", self.memory.prototypes.shape)
        return images


def with_parts(objective: Objective, extract_train: Images, parts: Sequence[Renewed]) -> Objective:
    """The objective with parts that are renewed before every epoch, if there are any."""
    return Refreshed(objective, extract_train, parts) if parts else objective


def with_prototypes(
    objective: Objective,
    memory: PrototypeMemory | None,
    extract_train: Images,
    *before: Renewed,
) -> Objective:
    """The objective with the parts `before`, then its loss's memory if any, renewed before every epoch."""
    parts = [*before] if memory is None else [*before, Prototypes(memory)]
    return with_parts(objective, extract_train, parts)
