"""CLIP-ReID in two stages: a prompt for every identity, then the image tower against these texts.

Li, Sun, Li, AAAI 2023, section 3 and algorithm 1.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datasets import Batch, ImageBatch
from loss import ReIDLoss, dot_products, supcon_loss
from model import ReIDModel
from processor.engine.objective import Objective, Step
from processor.engine.stage import Plan, Stage
from processor.evaluation.extract import extract
from processor.recipes.prototypes import with_prototypes
from processor.recipes.whole_batch import whole_output
from retrieval import FeatureSet
from utils.device import move_module
from utils.distributed import gather_batch, rank, world_size
from utils.precision import Precision

_logger = logging.getLogger("transreid.train")
_TEXT_SIDE = ("prompt_learner.", "text_encoder.")
_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class FeatureBatch(Batch):
    """Cached image features (B, P) with identities (B,), and the identities whose texts are needed.

    `labels` (L,) holds each identity once, then the first one again up to a number that all batches of a size
    share; `place` (B,) says where each image's identity is: labels[place] == pids.
    """

    features: Tensor
    pids: Tensor
    labels: Tensor
    place: Tensor
    paths: Sequence[str]


class CachedFeatures:
    """Batches of features that were computed once, in a new random order every epoch.

    What a batch holds is worked out on the CPU and brought to the device once an epoch. Steps have equal
    shapes, so that they can be captured.

    Args:
        features, pids: (N, P) and (N,), in any floating dtype; batches are float32.
        batch_size: the last batch of an epoch may be smaller; it is never empty.
        seed: with the epoch it determines the order.
        paths: of the N images; every process of a run has all of them, in the same batches.
    """

    def __init__(
        self, features: Tensor, pids: Tensor, batch_size: int, seed: int, paths: Sequence[str]
    ) -> None:
        self.features, self.pids, self.batch_size, self.seed = features, pids, batch_size, seed
        self.paths = paths
        self._pids_here = pids.cpu()
        self._num_pids = len(self._pids_here.unique())
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Draw the order of this epoch, whose next pass begins with batch `start`."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.pids), generator=generator)
        labels, places = [], []
        for pids in self._pids_here[order].split(self.batch_size):
            distinct, place = pids.unique(return_inverse=True)
            padding = min(len(pids), self._num_pids) - len(distinct)
            labels.append(torch.cat([distinct, distinct[:1].expand(padding)]))
            places.append(place)
        device = self.pids.device
        self._start, self._order_here = start, order.tolist()
        self._order, self._places = order.to(device), torch.cat(places).to(device)
        self._labels = torch.cat(labels).to(device).split([len(part) for part in labels])

    @property
    def num_labels(self) -> int:
        """Labels of a full batch."""
        return min(self.batch_size, len(self.pids), self._num_pids)

    def __len__(self) -> int:
        return -(-len(self.pids) // self.batch_size)

    def __iter__(self) -> Iterator[FeatureBatch]:
        orders, places = (tensor.split(self.batch_size) for tensor in (self._order, self._places))
        batches = zip(orders, self._labels, places, strict=True)
        for number, (rows, labels, place) in enumerate(batches):
            if number >= self._start:
                first = number * self.batch_size
                paths = [self.paths[index] for index in self._order_here[first : first + self.batch_size]]
                yield FeatureBatch(self.features[rows].float(), self.pids[rows], labels, place, paths)


class PromptObjective(Objective):
    """Stage 1: supervised contrast of image features and prompt features, both ways (equations 4 and 5).

    Of several processes each computes its share of the texts, and all have the loss of the whole batch.

    `capture` is the number of labels of most batches; their texts are a captured CUDA graph, because the
    hundreds of small kernels take longer to launch than to run. None, or another device than a GPU: no graph.
    """

    def __init__(self, model: ReIDModel, capture: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.capture = None if capture is None else _share_size(capture)
        self._captured: Callable[[Tensor], Tensor] | None = None

    def prepare(self, precision: Precision) -> None:
        """Capture the texts of this process's share of `capture` labels with their gradient."""
        if self.capture is None or precision.device_type != "cuda":
            return
        labels = torch.arange(self.capture, device=self.model.prompt_learner.cls_ctx.device)
        try:
            # A cast weight that was kept for the capture alone would be gone when the graph is replayed.
            with precision.autocast(keep_casts=False):
                self._captured = torch.cuda.make_graphed_callables(_Texts(self.model), (labels,))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            _logger.warning("stage 1 runs without a CUDA graph, which could not be captured: %s", reason)

    def forward(self, batch: FeatureBatch) -> Step:
        """Losses of one batch of cached features."""
        labels = _own_share(batch.labels)
        captured = self._captured is not None and len(labels) == self.capture
        encode = self._captured if captured else self.model.encode_text
        text = gather_batch(encode(labels))[batch.place]
        return Step(
            {
                "i2t": supcon_loss(batch.features, text, batch.pids, batch.pids),
                "t2i": supcon_loss(text, batch.features, batch.pids, batch.pids),
            },
            {},
            len(batch.pids),
        )


def _share_size(labels: int) -> int:
    return -(-labels // world_size())


def _own_share(labels: Tensor) -> Tensor:
    """This process's part of the labels; all are equally long, with the last label for what is missing."""
    size = _share_size(len(labels))
    places = torch.arange(rank() * size, (rank() + 1) * size, device=labels.device)
    return labels[places.clamp(max=len(labels) - 1)]


class _Texts(nn.Module):
    """`encode_text` as a module that can be captured: of the model's weights it knows those that learn."""

    def __init__(self, model: ReIDModel) -> None:
        super().__init__()
        self.prompt_learner = model.prompt_learner
        self._encode = model.encode_text

    def forward(self, labels: Tensor) -> Tensor:
        return self._encode(labels)


class ImageObjective(Objective):
    """Stage 2: identity, triplet and image-to-text losses against fixed texts (equations 6 to 9)."""

    def __init__(self, model: ReIDModel, loss: ReIDLoss, text_features: Tensor) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.register_buffer("text_features", text_features)

    def forward(self, batch: ImageBatch) -> Step:
        """Losses of one batch of images; reports the accuracy of the image-to-text logits."""
        output, pids = whole_output(self.model, batch, necks=self.loss.memory is not None)
        losses = self.loss(output, pids, self.text_features)
        predicted = dot_products(output.projected.detach(), self.text_features).argmax(dim=1)
        return Step(losses, {"acc": (predicted == pids).float().mean()}, len(pids))

    def after_step(self) -> None:
        """Let the loss update what it keeps beside the weights."""
        self.loss.after_step()


@torch.no_grad()
def encode_identities(model: ReIDModel) -> Tensor:
    """Text features (C, P) of the learned prompts of all identities."""
    pids = torch.arange(model.num_classes, device=model.prompt_learner.cls_ctx.device)
    return torch.cat([model.encode_text(part) for part in pids.split(_TEXTS_AT_ONCE)])


def clipreid(
    model: ReIDModel,
    loss: ReIDLoss,
    train: DataLoader,
    cache: DataLoader,
    *,
    prompt_plan: Plan | None,
    image_plan: Plan,
    device: torch.device,
    precision: Precision,
    seed: int,
    half_features: bool = False,
    features: Callable[[], FeatureSet] | None = None,
) -> Iterator[Stage]:
    """The recipe of `train_clipreid.py`, a generator: stage 2 needs the prompts that stage 1 has learned.

    Args:
        train: identity batches with augmentation, for stage 2.
        cache: every training image once, without augmentation, for stage 1.
        prompt_plan: of stage 1; None when the model's prompts have been learned.
        precision: of the pass that fills the cache.
        half_features: keep what is cached in half precision.
        features: gives the features after the neck of all training images; a loss with a memory needs them.
    """
    if prompt_plan is not None:
        cached = _cache_features(model, cache, device, precision, half_features, prompt_plan.batch_size, seed)
        prompts = [(name, p) for name, p in model.named_parameters() if name.startswith("prompt_learner.")]
        yield Stage(
            "stage1",
            PromptObjective(model, capture=cached.num_labels),
            cached,
            cached,
            prompt_plan.make_optimizer(prompts),
            prompt_plan,
            suffix="_stage1",
        )
        del cached, prompts  # stage 2 needs the memory

    move_module(model, device)
    texts = encode_identities(model)
    image_side = [(name, p) for name, p in model.named_parameters() if not name.startswith(_TEXT_SIDE)]
    yield Stage(
        "stage2",
        with_prototypes(ImageObjective(model, loss, texts), loss.memory, features),
        train,
        train.batch_sampler,
        image_plan.make_optimizer(image_side),
        image_plan,
    )


def _cache_features(
    model: ReIDModel,
    loader: DataLoader,
    device: torch.device,
    precision: Precision,
    half_features: bool,
    batch_size: int,
    seed: int,
) -> CachedFeatures:
    # In evaluation mode and without side information: prompts describe identities.
    cached = extract(
        model, loader, device, encode=lambda batch: model.encode_image(batch.images), precision=precision
    )
    _logger.info("stage 1 learns from %d cached image features", len(cached))
    features = cached.features.half() if half_features else cached.features
    return CachedFeatures(features, cached.pids, batch_size, seed, cached.paths)
