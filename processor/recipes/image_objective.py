"""The objective of every stage that trains the image tower on images, and the parts its recipes share."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datasets import DescribedImages, ImageBatch, LoadedBatch
from loss import ReIDLoss, dot_products
from model import ReIDModel, ReIDOutput
from processor.engine import EpochSampler, Objective, Sign, Step
from processor.engine.signs import at, at_chance
from processor.evaluation import extract
from processor.recipes.graph import GraphPlan
from retrieval import FeatureSet
from utils.distributed import gather_batch, share_buffers
from utils.precision import Precision

_METRIC_FEATURES = 3  # that have a triplet loss each
_TOLD_APART = 0.1  # accuracy of a model that learns


class ImageLoader(Protocol):
    """A loader of training images, whose batch sampler draws the order of an epoch."""

    batch_sampler: EpochSampler

    def __iter__(self) -> Iterator[LoadedBatch]: ...

    def __len__(self) -> int: ...


class Order(Protocol):
    """Draws which images come in which order, identity by identity: `num_pids` identities a batch."""

    num_pids: int

    def set_pids(self, pids: Sequence[int]) -> None:
        """Draw from these pids of the images; images with a pid below 0 are left out."""
        ...


class ImageLoaders(Protocol):
    """`datasets.Loaders` with a training split; clusters use `order`."""

    train: ImageLoader
    plain: DataLoader[LoadedBatch]
    order: Order
    shuffled: ImageLoader | None
    described: DescribedImages | None


@dataclass(frozen=True)
class ImageTraining:
    """Arguments of the recipes of image methods: model, loss, loaders, device, precision, teacher, graphs.

    `graph` draws the batches of the main stage, `prompt_graph` those of stage 1; None: another sampler does.
    """

    model: ReIDModel
    loss: ReIDLoss
    loaders: ImageLoaders
    device: torch.device
    precision: Precision
    teacher: Callable[[Tensor], Tensor] | None = None
    graph: GraphPlan | None = None
    prompt_graph: GraphPlan | None = None

    def extract_train(self) -> FeatureSet:
        """Features (N, D) after the neck of all training images; the model is in evaluation mode then."""
        share_buffers(self.model)  # batch norms of several processes may have gone different ways

        def encode(batch: ImageBatch) -> Tensor:
            return self.model.encode_neck(batch.images, batch.camids, batch.viewids)

        return extract(self.model, self.loaders.plain, self.device, encode, precision=self.precision)


class ImageObjective(Objective):
    """The terms of a loss on the image tower: identity, triplet, prototypes, and texts where they are given.

    With texts it is stage 2 of CLIP-ReID (Li, Sun, Li, AAAI 2023, equations 6 to 9).

    Args:
        model: trained in forward mode.
        loss: its terms are minimised.
        texts: (C, P) fixed text features of the identities, or None.
        accuracy: report `acc`, the share of images whose identity is predicted: by texts where there are any,
            else by the first classifier.
        teacher: gives the features of images that those of the model stay near, or None.
        draw_texts: gives, before an epoch, other texts or None, where they stay.
    """

    texts: Tensor | None

    def __init__(
        self,
        model: ReIDModel,
        loss: ReIDLoss,
        texts: Tensor | None = None,
        *,
        accuracy: bool = True,
        teacher: Callable[[Tensor], Tensor] | None = None,
        draw_texts: Callable[[int], Tensor | None] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.accuracy, self.teacher = model, loss, accuracy, teacher
        self.draw_texts = draw_texts
        self.register_buffer("texts", texts)

    def signs(self) -> Sequence[Sign]:
        """The triplet loss at its margin, where all features are alike; accuracy at chance, if it learns."""
        signs = []
        if self.loss.triplet_weight and self.loss.margin != 0:
            margin = self.loss.margin
            value = _METRIC_FEATURES * self.loss.triplet_weight * (math.log(2) if margin is None else margin)
            text = "the triplet loss has been at its margin ({value:.3f}), where all features are alike,"
            # Hard triplets may stay near the margin while identities are told apart better and better.
            known = max(2 / max(self.model.num_classes, 1), _TOLD_APART)
            signs.append(at("loss_triplet", value, text, unless=lambda means: means.get("acc", 0) > known))
        weight = self.loss.id_weight if self.texts is None else self.loss.i2t_weight
        if self.accuracy and weight and self.model.num_classes > 1:
            text = f"accuracy has been at chance ({{value:.2%}} for {self.model.num_classes} identities)"
            signs.append(at_chance("acc", self.model.num_classes, text))
        return signs

    def begin_epoch(self, epoch: int) -> None:
        """Take other texts, where they are drawn for this epoch."""
        drawn = None if self.draw_texts is None else self.draw_texts(epoch)
        if drawn is not None and self.texts is not None:
            self.texts.copy_(drawn)

    def forward(self, batch: ImageBatch) -> Step:
        """Losses of one batch of images."""
        output, pids = self._whole_output(batch)
        taught = None if self.teacher is None else gather_batch(self.teacher(batch.images))
        losses = self.loss(output, pids, self.texts, taught)
        report = {"acc": self._accuracy(output, pids)} if self.accuracy else {}
        return Step(losses, report, len(pids))

    def after_step(self) -> None:
        """Let the loss update what it keeps besides weights: centres, prototypes."""
        self.loss.after_step()

    def _whole_output(self, batch: ImageBatch) -> tuple[ReIDOutput, Tensor]:
        """Gather model outputs and pids of all processes, in their order, with gradients."""
        output = self.model(batch.images, batch.camids, batch.viewids)
        projected = gather_batch(output.projected)
        first, middle, last = (projected if f is output.projected else gather_batch(f) for f in output.metric)
        logits = tuple(map(gather_batch, output.logits))
        necks = tuple(map(gather_batch, output.necks)) if self.loss.memory is not None else ()
        return ReIDOutput(logits, (first, middle, last), projected, necks), gather_batch(batch.pids)

    def _accuracy(self, output: ReIDOutput, pids: Tensor) -> Tensor:
        if self.texts is None:
            scores = output.logits[0]
        else:
            scores = dot_products(output.projected.detach(), self.texts)
        return (scores.argmax(dim=1) == pids).float().mean()
