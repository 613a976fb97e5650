"""CLIP-ReID in two stages: a prompt for every identity, then the image tower against these texts.

Li, Sun, Li, AAAI 2023, section 3 and algorithm 1.
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datasets import Batch
from loss import ReIDLoss, supcon_loss
from model import ReIDModel
from processor.inference import extract
from processor.objective import Objective, Step
from processor.stage import Plan, Stage

_logger = logging.getLogger("transreid.train")
_TEXT_SIDE = ("prompt_learner.", "text_encoder.")


class FeatureBatch(NamedTuple):
    """Cached image features (B, P) with identities (B,)."""

    features: Tensor
    pids: Tensor

    def to(self, device: torch.device) -> "FeatureBatch":
        """The batch on a device."""
        return FeatureBatch(self.features.to(device), self.pids.to(device))


class CachedFeatures:
    """Batches of features that were computed once, in a new random order every epoch.

    Args:
        features, pids: (N, P) and (N,).
        batch_size: the last batch of an epoch may be smaller; it is never empty.
        seed: with the epoch it determines the order.
    """

    def __init__(self, features: Tensor, pids: Tensor, batch_size: int, seed: int) -> None:
        self.features, self.pids, self.batch_size, self.seed = features, pids, batch_size, seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        self._order = torch.randperm(len(self.pids), generator=generator).to(self.pids.device)

    def __len__(self) -> int:
        return -(-len(self.pids) // self.batch_size)

    def __iter__(self) -> Iterator[FeatureBatch]:
        for rows in self._order.split(self.batch_size):
            yield FeatureBatch(self.features[rows], self.pids[rows])


class PromptObjective(Objective):
    """Stage 1: supervised contrast of image features and prompt features, both ways (equations 4 and 5)."""

    def __init__(self, model: ReIDModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: FeatureBatch) -> Step:
        """Losses of one batch of cached features."""
        text = self.model.encode_text(batch.pids)
        return Step(
            {
                "i2t": supcon_loss(batch.features, text, batch.pids, batch.pids),
                "t2i": supcon_loss(text, batch.features, batch.pids, batch.pids),
            },
            {},
        )


class ImageObjective(Objective):
    """Stage 2: identity, triplet and image-to-text losses against fixed texts (equations 6 to 9)."""

    def __init__(self, model: ReIDModel, loss: ReIDLoss, text_features: Tensor) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.register_buffer("text_features", text_features)

    def forward(self, batch: Batch) -> Step:
        """Losses of one batch of images; reports the accuracy of the image-to-text logits."""
        output = self.model(batch.images, batch.camids, batch.viewids)
        losses = self.loss(output, batch.pids, self.text_features)
        predicted = (output.projected.detach() @ self.text_features.T).argmax(dim=1)
        return Step(losses, {"acc": (predicted == batch.pids).float().mean()})

    def after_step(self) -> None:
        """Let the loss update what it keeps beside the weights."""
        self.loss.after_step()


@torch.no_grad()
def encode_identities(model: ReIDModel, batch_size: int) -> Tensor:
    """Text features (C, P) of the learned prompts of all identities."""
    pids = torch.arange(model.num_classes, device=model.prompt_learner.cls_ctx.device)
    return torch.cat([model.encode_text(part) for part in pids.split(batch_size)])


def clipreid(
    model: ReIDModel,
    loss: ReIDLoss,
    train: DataLoader,
    cache: DataLoader,
    *,
    prompt_plan: Plan,
    image_plan: Plan,
    device: torch.device,
    seed: int,
) -> Iterator[Stage]:
    """The recipe of `train_clipreid.py`, a generator: stage 2 needs the prompts that stage 1 has learned.

    Args:
        train: identity batches with augmentation, for stage 2.
        cache: every training image once, without augmentation, for stage 1.
    """
    # The cache is filled in evaluation mode and without side information: prompts describe identities.
    cached = extract(model, cache, device, encode=lambda batch: model.encode_image(batch.images))
    _logger.info("stage 1 learns from %d cached image features", len(cached))
    batches = CachedFeatures(cached.features, cached.pids, prompt_plan.batch_size, seed)
    prompts = [(name, p) for name, p in model.named_parameters() if name.startswith("prompt_learner.")]
    yield Stage(
        "stage1",
        PromptObjective(model),
        batches,
        batches,
        prompt_plan.make_optimizer(prompts),
        prompt_plan,
        suffix="_stage1",
    )

    texts = encode_identities(model, prompt_plan.batch_size)
    image_side = [(name, p) for name, p in model.named_parameters() if not name.startswith(_TEXT_SIDE)]
    yield Stage(
        "stage2",
        ImageObjective(model, loss, texts),
        train,
        train.sampler,
        image_plan.make_optimizer(image_side),
        image_plan,
    )
