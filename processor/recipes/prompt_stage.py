"""Stage 1 of CLIP-ReID: a prompt for every identity, learned against image features computed once.

Li, Sun, Li, AAAI 2023, section 3.2, equations 4 and 5.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datasets import Batch, GraphSampler, ImageBatch
from loss import supcon_loss
from model import ReIDModel
from processor.engine import Objective, Step
from processor.recipes.captions import ImageCaptions
from retrieval import FeatureSet
from utils.distributed import gather_batch, rank, world_size
from utils.precision import Precision

_logger = logging.getLogger("transreid.train")


@dataclass(frozen=True)
class FeatureBatch(Batch):
    """Cached image features (B, P) with identities (B,), and the identities whose texts are needed.

    `labels` (L,) holds each identity once, then the first one again up to a number that all batches of a size
    share; `place` (B,) says where each image's identity is: labels[place] == pids. Where images are matched
    with captions, `captions` (B, P) are their features, which count where `is_captioned` (B, 1) is True; or
    `sentences` are these captions, None for prompts.
    """

    features: Tensor
    pids: Tensor
    labels: Tensor
    place: Tensor
    paths: Sequence[str]
    captions: Tensor | None = None
    is_captioned: Tensor | None = None
    sentences: list[str | None] | None = None


class CachedFeatures:
    """Batches of features that were computed once, in a new random order every epoch.

    What a batch holds is worked out on the CPU and brought to the device once an epoch. Steps have equal
    shapes, so that they can be captured.

    Args:
        features, pids: (N, P) and (N,), in any floating dtype; batches are float32.
        batch_size: the last batch of an epoch may be smaller; it is never empty.
        seed: with the epoch it determines the order.
        paths: of the N images; every process of a run has all of them, in the same batches.
        graph: draws the epochs for which it has a graph; its pids are these, its rows the batches.
        captions: of the N images, or None.
        caption_features: (T, P), those of `captions.texts`; None where they are encoded in every step.
    """

    def __init__(  # noqa: PLR0913
        self,
        features: Tensor,
        pids: Tensor,
        batch_size: int,
        seed: int,
        paths: Sequence[str],
        graph: GraphSampler | None = None,
        captions: ImageCaptions | None = None,
        caption_features: Tensor | None = None,
    ) -> None:
        self.captions, self.caption_features = captions, caption_features
        self.features, self.pids, self.batch_size, self.seed = features, pids, batch_size, seed
        self.paths, self.graph = paths, graph
        self._pids_here = pids.cpu()
        self._num_pids = len(self._pids_here.unique())
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Draw the order of this epoch, whose next pass begins with batch `start`."""
        order, num_labels = self._draw(epoch)
        labels, places = [], []
        for pids in self._pids_here[order].split(self.batch_size):
            distinct, place = pids.unique(return_inverse=True)
            padding = min(len(pids), num_labels) - len(distinct)
            labels.append(torch.cat([distinct, distinct[:1].expand(padding)]))
            places.append(place)
        device = self.pids.device
        self._start = start
        self._order_here: list[int] = order.tolist()
        self._order, self._places = order.to(device), torch.cat(places).to(device)
        if self.captions is not None:
            self._rows_here = self.captions.draw(epoch)
            self._rows = torch.from_numpy(self._rows_here).to(device)
        self._labels = torch.cat(labels).to(device).split([len(part) for part in labels])

    def _draw(self, epoch: int) -> tuple[Tensor, int]:
        """The images of an epoch in order, and the most labels that a batch has."""
        if self.graph is not None:
            self.graph.set_epoch(epoch)
            if self.graph.has_graph:
                return torch.tensor(list(self.graph)), self.graph.num_pids
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.pids), generator=generator), self._num_pids

    @property
    def num_labels(self) -> int:
        """Labels of a full batch in random order."""
        return min(self.batch_size, len(self.pids), self._num_pids)

    def as_feature_set(self) -> FeatureSet:
        """The features (N, P) with their pids and paths."""
        return FeatureSet(self.features, self.pids, torch.full_like(self.pids, -1), self.paths)

    def __len__(self) -> int:
        return -(-len(self._order_here) // self.batch_size)

    def __iter__(self) -> Iterator[FeatureBatch]:
        orders, places = (tensor.split(self.batch_size) for tensor in (self._order, self._places))
        batches = zip(orders, self._labels, places, strict=True)
        for number, (rows, labels, place) in enumerate(batches):
            if number >= self._start:
                first = number * self.batch_size
                paths = [self.paths[index] for index in self._order_here[first : first + self.batch_size]]
                batch = FeatureBatch(self.features[rows].float(), self.pids[rows], labels, place, paths)
                if self.captions is not None:
                    batch = self._with_captions(batch, rows, self.captions.texts, first)
                yield batch

    def _with_captions(
        self, batch: FeatureBatch, images: Tensor, texts: Sequence[str], first: int
    ) -> FeatureBatch:
        if self.caption_features is None:
            here = self._rows_here[self._order_here[first : first + len(images)]]
            return batch.replace(sentences=[texts[row] if row >= 0 else None for row in here])
        rows = self._rows[images]
        features = self.caption_features[rows.clamp(min=0)]
        return batch.replace(captions=features, is_captioned=(rows >= 0).unsqueeze(1))


class PromptObjective(Objective):
    """Stage 1: supervised contrast of image features and prompt features, both ways (equations 4 and 5).

    Of several processes each computes its share of the texts, and all have the loss of the whole batch.

    `capture` are the numbers of labels of most batches; the texts of each are a captured CUDA graph, because
    the hundreds of small kernels take longer to launch than to run. None, or another device than a GPU: no
    graph.
    """

    def __init__(self, model: ReIDModel, capture: Sequence[int] = ()) -> None:
        super().__init__()
        self.model = model
        self.capture = sorted({_share_size(count) for count in capture})
        self._captured: dict[int, Callable[[Tensor], Any]] = {}

    def prepare(self, precision: Precision) -> None:
        """Capture the texts of this process's share of `capture` labels with their gradient."""
        if precision.device_type == "cuda":
            for count in self.capture:
                self._capture(count, precision)

    def _capture(self, count: int, precision: Precision) -> None:
        labels = torch.arange(count, device=self.model.prompt_learner.cls_ctx.device)
        try:
            # A cast weight that was kept only for the capture would be gone when the graph is replayed.
            with precision.autocast(keep_casts=False):
                self._captured[count] = torch.cuda.make_graphed_callables(_Texts(self.model), (labels,))
        except RuntimeError as error:
            if labels.is_cuda:  # whose generator would go on as if within the capture
                generator = torch.cuda.default_generators[labels.device.index]
                generator.graphsafe_set_state(generator.clone_state())
            reason = " ".join(str(error).split())
            _logger.warning("stage 1 runs without a CUDA graph, which could not be captured: %s", reason)

    def forward(self, batch: FeatureBatch) -> Step:
        """Losses of one batch of cached features."""
        if batch.sentences is not None:  # all of them in every process: they are few
            text = self.model.encode_text(batch.pids, batch.sentences)
            return Step(_contrast(batch.features, text, batch.pids), {}, len(batch.pids))
        labels = _own_share(batch.labels)
        encode = self._captured.get(len(labels), self.model.encode_prompts)
        text = gather_batch(encode(labels))[batch.place]
        if batch.captions is not None and batch.is_captioned is not None:
            text = torch.where(batch.is_captioned, batch.captions.to(text.dtype), text)
        return Step(_contrast(batch.features, text, batch.pids), {}, len(batch.pids))


class OnlinePromptObjective(Objective):
    """Stage 1 on image features of every step, for deep prompts that change them.

    The loss is that of `PromptObjective`. Of several processes each encodes its images and their prompts, and
    all have the loss of the whole batch.
    """

    def __init__(self, model: ReIDModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ImageBatch) -> Step:
        """Losses of one batch of images."""
        features = gather_batch(self.model.encode_image(batch.images)).float()
        text, pids = gather_batch(self.model.encode_prompts(batch.pids)), gather_batch(batch.pids)
        return Step(_contrast(features, text, pids), {}, len(pids))


def _contrast(features: Tensor, text: Tensor, pids: Tensor) -> dict[str, Tensor]:
    return {
        "i2t": supcon_loss(features, text, pids, pids),
        "t2i": supcon_loss(text, features, pids, pids),
    }


def _share_size(labels: int) -> int:
    return -(-labels // world_size())


def _own_share(labels: Tensor) -> Tensor:
    """This process's part of the labels; all are equally long, with the last label for what is missing."""
    size = _share_size(len(labels))
    places = torch.arange(rank() * size, (rank() + 1) * size, device=labels.device)
    return labels[places.clamp(max=len(labels) - 1)]


class _Texts(nn.Module):
    """`encode_prompts` as a module that can be captured; it holds the modules whose weights learn."""

    def __init__(self, model: ReIDModel) -> None:
        super().__init__()
        self.prompt_learner = model.prompt_learner
        if any(parameter.requires_grad for parameter in model.text_encoder.parameters()):
            self.text_encoder = model.text_encoder
        self._encode = model.encode_prompts

    def forward(self, labels: Tensor) -> Tensor:
        return self._encode(labels)
