"""Prototypes of the training identities, rebuilt at the start of every epoch.

Li, Gong, "Prototypical Contrastive Learning-based CLIP Fine-tuning for Object Re-identification", arXiv
2310.17218, 2023.
"""

import logging
from collections.abc import Callable

import torch
from torch.utils.data import DataLoader

from loss import PrototypeMemory
from model import ReIDModel
from processor.engine.objective import Objective, Step, TrainingBatch
from processor.evaluation.extract import extract
from retrieval import FeatureSet
from utils.distributed import share_buffers
from utils.precision import Precision

_logger = logging.getLogger("transreid.train")


def neck_features(
    model: ReIDModel, loader: DataLoader, device: torch.device, precision: Precision
) -> FeatureSet:
    """Features (N, D) after the neck of all images of a loader; the model is in evaluation mode then."""
    share_buffers(model)  # batch norms of several processes may have gone different ways

    def encode(batch: TrainingBatch) -> torch.Tensor:
        return model.encode_neck(batch.images, batch.camids, batch.viewids)

    return extract(model, loader, device, encode, precision=precision)


class WithPrototypes(Objective):
    """An objective whose loss holds a prototype memory, which is built anew before every epoch.

    Args:
        objective: what is minimised.
        memory: of its loss.
        features: gives the features after the neck of all training images, with their identities 0..C-1.
    """

    def __init__(
        self, objective: Objective, memory: PrototypeMemory, features: Callable[[], FeatureSet]
    ) -> None:
        super().__init__()
        self.objective, self.memory, self.features = objective, memory, features

    def prepare(self, precision: Precision) -> None:
        """As the objective does."""
        self.objective.prepare(precision)

    def begin_epoch(self, epoch: int) -> None:
        """Build the prototypes from the features of all training images."""
        images = self.features()
        self.memory.rebuild(images.features, images.pids)
        log_memory(self.memory)
        self.train()
        self.objective.begin_epoch(epoch)

    def forward(self, batch: TrainingBatch) -> Step:
        """As the objective says."""
        return self.objective(batch)

    def after_step(self) -> None:
        """As the objective does; its loss moves the prototypes."""
        self.objective.after_step()


def with_prototypes(
    objective: Objective, memory: PrototypeMemory | None, features: Callable[[], FeatureSet] | None
) -> Objective:
    """The objective with its loss's memory, where there is one, built anew before every epoch."""
    return objective if memory is None else WithPrototypes(objective, memory, features)


def log_memory(memory: PrototypeMemory) -> None:
    """The published lines."""
    _logger.info("Memory has %d classes.", len(memory.prototypes))
    _logger.info("Create memory bank with shape = %s", memory.prototypes.shape)
