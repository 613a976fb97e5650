"""Evaluation of a search by text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import CaptionBatch, Trial
from model import DualModel
from processor.evaluation.extract import ItemBatch, make_task
from processor.evaluation.sentences import encode_captions
from processor.evaluation.streams import Stream
from retrieval import FeatureSet, RetrievalTask


@dataclass(frozen=True)
class TextToImage:
    """Texts and images in one space; the trials say which of them are searched for in which.

    `info` about model and data is kept in the task's file. Where there are `trial_names`, each trial is
    reported by itself.
    """

    images: Iterable[ItemBatch]
    captions: Iterable[CaptionBatch]
    trials: Sequence[Trial]
    model: DualModel
    info: Mapping[str, Any] = field(default_factory=dict)
    trial_names: Sequence[str] = ()

    def streams(self) -> dict[str, Stream]:
        """The images and the captions of all trials."""
        return {
            "image": Stream(self.images, lambda batch: self.model.encode_image(batch.images)),
            "text": Stream(self.captions, lambda batch: encode_captions(self.model, batch)),
        }

    def task(self, features: dict[str, FeatureSet]) -> RetrievalTask:
        """The data set's trials over both."""
        items = FeatureSet.concat([features["text"], features["image"]])
        return make_task(items, self.trials, self.info, self.trial_names)
