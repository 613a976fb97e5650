"""Text-based person search (TBPS-CLIP; Cao, Bai, Zeng, Ye, Zhang, AAAI 2024): one stage on both towers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets import PairBatch
from loss import citc_loss, nitc_loss, ritc_loss, simclr_loss
from model import NO_LABEL, DualModel, cut_to_longest, mask_words, other_seeds, predict_words
from processor.engine import EpochSampler, Objective, Plan, Stage, Step
from utils.device import queue_copy
from utils.distributed import gather_batch, world_size

if TYPE_CHECKING:
    from model import ClipText


@dataclass(frozen=True)
class LossWeights:
    """Weights and settings of the terms; a weight of 0 leaves a term out.

    `multi_view` trains N-ITC on the second images, too; `soft` is the largest share of the model's own
    predictions in its labels.
    """

    nitc: float = 1.0
    multi_view: bool = True
    soft: float = 0.5
    ritc: float = 1.0
    ritc_eps: float = 0.01
    citc: float = 0.1
    citc_inmodal: float = 0.25
    citc_crossmodal: float = 0.25
    ss: float = 0.4
    ss_temperature: float = 0.1
    id: float = 0.0
    mlm: float = 0.0


class TextSearchObjective(Objective):
    """The terms of TBPS-CLIP on pairs of images and captions.

    Args:
        model: both towers and the heads of the terms.
        weights: of the terms.
        iterations: of an epoch, the first of which raises the weight of soft labels from 0.
    """

    steps: Tensor

    def __init__(self, model: DualModel, weights: LossWeights, iterations: int = 1) -> None:
        super().__init__()
        self.model, self.weights, self.iterations = model, weights, iterations
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: PairBatch) -> Step:
        """Losses of one batch of pairs."""
        tokens, labels = self._tokenize(batch)
        views = None
        if batch.first_views is not None and batch.second_views is not None:
            views = batch.first_views, batch.second_views
        losses = self.losses(
            images=batch.images,
            second_images=batch.second_images,
            views=views,
            tokens=tokens,
            pids=batch.pids,
            soft_weight=self.weights.soft * (self.steps / self.iterations).clamp(max=1),
            seeds=batch.seeds,
            labels=labels,
        )
        return Step(losses, {"scale": self.model.scale().detach()}, len(batch.pids) * world_size())

    @torch.compiler.disable()  # which would compile again for other captions
    def _tokenize(self, batch: PairBatch) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, n) of the captions, and for the masked language model the words that they leave out."""
        tower, device = self.model.encode_text, batch.images.device
        tokens, mask = tower.tokenizer(batch.captions)
        if not self.weights.mlm:
            return queue_copy(cut_to_longest(tokens, mask), device), None
        # Its blocks look at all positions, as published.
        tokens, labels = mask_words(tokens, batch.seeds, cast("ClipText", tower).vocabulary)
        return queue_copy(tokens, device), queue_copy(labels, device)

    def after_step(self) -> None:
        """Count the steps, which decide the weight of soft labels."""
        self.steps += 1

    def losses(  # noqa: PLR0913
        self,
        *,
        images: Tensor,
        second_images: Tensor | None,
        views: tuple[Tensor, Tensor] | None,
        tokens: Tensor,
        pids: Tensor,
        soft_weight: float | Tensor,
        seeds: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Weighted terms of the pairs of all processes by name, in the model's mode.

        Args:
            images: (B, 3, H, W).
            second_images: other augmentations of the images, or None.
            views: two views of the images for `ss`, or None.
            tokens: (B, n) of their captions.
            pids: (B,).
            soft_weight: share of the model's own predictions in the labels of N-ITC.
            seeds: (B,) for dropout; None draws them.
            labels: (B, n), the words that tokens leave out, for `mlm`.
        """
        images_of = self._encode_images(images, second_images, views)
        text, word_loss = self._encode_texts(tokens, seeds, labels, images_of)
        weights, scale, pids = self.weights, self.model.scale(), gather_batch(pids)
        image, unit_text = (F.normalize(each.float()) for each in (images_of.image, text))
        terms = {}
        if weights.nitc:
            soft = {"soft_weight": soft_weight, "soft_text": self._soft_text(tokens, seeds)}
            nitc = nitc_loss(image, unit_text, pids, scale, **soft)
            if images_of.second is not None:
                second = F.normalize(images_of.second.float())
                nitc = (nitc + nitc_loss(second, unit_text, pids, scale, **soft)) / 2
            terms["nitc"] = weights.nitc * nitc
        if weights.ss:
            head = self.model.simclr_mlp
            first, second = (F.normalize(head(view).float()) for view in images_of.views)
            terms["ss"] = weights.ss * simclr_loss(first, second, temperature=weights.ss_temperature)
        if weights.citc:
            parts = {"inmodal_weight": weights.citc_inmodal, "crossmodal_weight": weights.citc_crossmodal}
            terms["citc"] = weights.citc * citc_loss(image, unit_text, **parts)
        if weights.ritc:
            terms["ritc"] = weights.ritc * ritc_loss(image, unit_text, pids, scale, eps=weights.ritc_eps)
        if word_loss is not None:
            terms["mlm"] = weights.mlm * word_loss
        if weights.id:
            logits = (self.model.classifier(each).float() for each in (images_of.image, text))
            terms["id"] = weights.id * sum(F.cross_entropy(each, pids) for each in logits) / 2
        return terms

    def _encode_images(
        self, images: Tensor, second: Tensor | None, views: tuple[Tensor, Tensor] | None
    ) -> "_Images":
        """Features of the images of all processes; all kinds go through the tower together."""
        second = second if self.weights.multi_view else None
        kinds = [images, *([] if second is None else [second]), *((views or ()) if self.weights.ss else ())]
        tokens = None
        if self.weights.mlm:
            tokens, *kinds = self.model.encode_image_tokens(images), *kinds[1:]
        features = list(self.model.encode_image(torch.cat(kinds)).split(len(images))) if kinds else []
        if tokens is not None:
            features.insert(0, tokens[:, 0])
        image, *others = map(gather_batch, features)
        return _Images(image, others.pop(0) if second is not None else None, tuple(others), tokens)

    def _encode_texts(
        self, tokens: Tensor, seeds: Tensor | None, labels: Tensor | None, images: "_Images"
    ) -> tuple[Tensor, Tensor | None]:
        """Features of the texts of all processes, and the loss of the masked language model, if it is on."""
        if images.tokens is None or labels is None:
            return gather_batch(self.model.encode_text(tokens, seeds)), None
        texts = cast("ClipText", self.model.encode_text).encode_tokens(tokens, seeds)  # (B, n, P)
        wanted = labels != NO_LABEL
        scores = predict_words(self.model, texts, images.tokens, wanted).float()
        loss = F.cross_entropy(scores, labels[wanted], reduction="sum")
        count = gather_batch(wanted.sum(dim=(0, 1), keepdim=True).flatten()).sum().clamp(min=1)
        ends = tokens.argmax(dim=1)
        text = texts[torch.arange(len(ends), device=ends.device), ends]
        return gather_batch(text), gather_batch(loss[None]).sum() / count

    @torch.no_grad()
    def _soft_text(self, tokens: Tensor, seeds: Tensor | None) -> Tensor | None:
        """Features of the texts under another draw of dropout; None where there is no dropout."""
        tower = self.model.encode_text
        if not (tower.dropout and tower.training and self.weights.soft):
            return None
        others = None if seeds is None else other_seeds(seeds)
        return F.normalize(gather_batch(tower(tokens, others)).float())


class _Images(NamedTuple):
    """Features (N, P) of the images of all processes, of `views` two or none, and `tokens` (B, t, P)."""

    image: Tensor
    second: Tensor | None
    views: tuple[Tensor, ...]
    tokens: Tensor | None


class PairLoader(Protocol):
    """A loader of training pairs, whose batch sampler draws the order of an epoch."""

    batch_sampler: EpochSampler

    def __iter__(self) -> Iterator[PairBatch]: ...

    def __len__(self) -> int: ...


def text_search_stage(objective: TextSearchObjective, train: PairLoader, plan: Plan) -> Iterator[Stage]:
    """One stage over all weights that are not frozen."""
    optimizer = plan.make_optimizer(objective.model.named_parameters())
    yield Stage("tbps", objective, train, train.batch_sampler, optimizer, plan)
