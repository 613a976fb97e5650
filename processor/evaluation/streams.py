"""Evaluations: which items of which modality are encoded, and the retrieval task made of their features."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from datasets import Trial
from processor.evaluation.extract import ItemBatch, extract, make_task
from retrieval import FeatureSet, RetrievalTask
from utils.precision import Precision


class Stream(NamedTuple):
    """Batches of one modality and their encoder, a batch to features (B, D); None is the model itself."""

    loader: Iterable[ItemBatch]
    encode: Callable[[Any], Tensor] | None = None


class Evaluation(Protocol):
    """A protocol for what is encoded and compared. Features of all modalities of a task have one width D."""

    def streams(self) -> dict[str, Stream]:
        """Loaders and encoders by modality, as 'image' and 'text'."""
        ...

    def task(self, features: dict[str, FeatureSet]) -> RetrievalTask:
        """Trials, with their rule, over the features of each modality."""
        ...


@dataclass(frozen=True)
class ImageToImage:
    """Images are searched among images; `info` about model and data is kept in the task's file.

    `encode` maps a batch to features (B, D); None is the model's test feature.
    """

    loader: Iterable[ItemBatch]
    trials: Sequence[Trial]
    info: Mapping[str, Any] = field(default_factory=dict)
    encode: Callable[[Any], Tensor] | None = None

    def streams(self) -> dict[str, Stream]:
        """The images of all trials."""
        return {"image": Stream(self.loader, self.encode)}

    def task(self, features: dict[str, FeatureSet]) -> RetrievalTask:
        """The data set's trials over the images."""
        return make_task(features["image"], self.trials, self.info)


def extract_streams(
    evaluation: Evaluation, model: nn.Module, device: torch.device, precision: Precision
) -> dict[str, FeatureSet]:
    """Features of every stream of an evaluation, by modality. Raises as `extract` does."""
    return {
        modality: extract(model, stream.loader, device, stream.encode, precision=precision)
        for modality, stream in evaluation.streams().items()
    }
