"""Captions in CLIP-ReID: stage 0 on images with captions, and captions that stand for prompts.

Stage 0 is CLIP's contrast (Radford et al., ICML 2021) on a re-id data set; captions of people are those of
CUHK-PEDES (Li et al., CVPR 2017).
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets import Batch, ImageBatch
from loss import caption_loss, dot_products
from model import ReIDModel
from processor.engine import Objective, Step
from processor.recipes.image_objective import ImageLoader
from utils.distributed import gather_batch

_logger = logging.getLogger("transreid.train")
_AT_ONCE = 64
# Streams of random numbers for (seed, epoch), apart from those of samplers, which are below 10.
_OF_IMAGES, _OF_IDENTITIES, _OF_ONE_IMAGE = 10, 11, 12


class ImageCaptions:
    """The captions of N images, and which of them an epoch draws.

    Args:
        keys: of the images.
        captions: by key; images without are missing.
        seed: with the epoch it determines what is drawn.
    """

    def __init__(self, keys: Sequence[str], captions: Mapping[str, Sequence[str]], seed: int) -> None:
        self.seed = seed
        self.texts = [text for key in keys for text in captions.get(key, ())]
        self._counts = np.array([len(captions.get(key, ())) for key in keys])
        self._first = np.cumsum(self._counts) - self._counts

    def draw(self, epoch: int) -> NDArray[np.int64]:
        """A row of `texts` for each image (N,), -1 for images without captions."""
        rng = np.random.default_rng((self.seed, epoch, _OF_IMAGES))
        rows = self._first + (rng.random(len(self._counts)) * self._counts).astype(np.int64)
        return np.where(self._counts > 0, rows, -1)

    def draw_identities(self, pids: NDArray[np.int64], epoch: int, probability: float) -> list[str | None]:
        """A caption of one of its images for each identity (C,), or None.

        Identities that have some get one with `probability`. `pids` (N,) are those of the images, 0 to C-1.
        """
        rng = np.random.default_rng((self.seed, epoch, _OF_IDENTITIES))
        chosen = _one_of_each(np.repeat(pids, self._counts), int(pids.max()) + 1, rng)
        wanted = rng.random(len(chosen)) < probability
        return self._texts_of(np.where(wanted, chosen, -1))

    def draw_of_one_image(self, pids: NDArray[np.int64], epoch: int) -> list[str | None]:
        """A caption of one random image of each identity (C,), or None where this image has none."""
        rng = np.random.default_rng((self.seed, epoch, _OF_ONE_IMAGE))
        return self._texts_of(self.draw(epoch)[_one_of_each(pids, int(pids.max()) + 1, rng)])

    def _texts_of(self, rows: NDArray[np.int64]) -> list[str | None]:
        return [self.texts[row] if row >= 0 else None for row in rows]


def _one_of_each(owners: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random place in `owners` (N,) of each of `count` owners, -1 for one that has none."""
    order = rng.permutation(len(owners))
    chosen = np.full(count, -1)
    chosen[owners[order]] = order  # of several the last one stays
    return chosen


def note_cut_captions(model: ReIDModel, captions: Mapping[str, Sequence[str]]) -> None:
    """Log how many captions are too long for the model."""
    texts = [text for each in captions.values() for text in each]
    cut, room = sum(model.caption_tokenizer.are_cut(texts)), model.caption_tokenizer.context_length
    if cut:
        _logger.warning("%d of %d captions are cut: they have more than %d tokens", cut, len(texts), room)


@torch.no_grad()
def encode_sentences(model: ReIDModel, texts: Sequence[str]) -> Tensor:
    """Features (T, P) of sentences without learned tokens."""
    parts = (texts[first : first + _AT_ONCE] for first in range(0, len(texts), _AT_ONCE))
    return torch.cat([model.encode_captions(part) for part in parts])


class DrawnTexts:
    """The text features of identities for stage 2, drawn again every so many epochs.

    Args:
        model: encodes captions and, with `prompt_in_captions`, the learned tokens in them.
        prompts: (C, P), features of the prompts.
        captions: of the training images.
        pids: (N,) of these images.
        probability: that an identity with captions has one in place of its prompt.
        every: epochs from one drawing to the next; 0 for one only.
    """

    def __init__(
        self,
        model: ReIDModel,
        prompts: Tensor,
        captions: ImageCaptions,
        pids: Tensor,
        *,
        probability: float,
        every: int,
    ) -> None:
        self.model, self.prompts, self.captions = model, prompts, captions
        self.pids = pids.cpu().numpy()
        self.probability, self.every = probability, every

    def __call__(self, epoch: int) -> Tensor | None:
        """Features (C, P) where this epoch (from 1) has a drawing, else None."""
        if epoch > 1 and (not self.every or (epoch - 1) % self.every):
            return None
        drawn = self.captions.draw_identities(self.pids, epoch, self.probability)
        count = sum(text is not None for text in drawn)
        _logger.info("Epoch %d: the texts of %d of %d identities are captions", epoch, count, len(drawn))
        return _in_place_of(self.prompts, drawn, self.model)


class CaptionedTexts:
    """Text features of identities for their graph: of a caption of one random image, if it has some.

    Args:
        model: encodes captions.
        prompts: gives the features (C, P) of the prompts, which the other identities keep.
        captions: of the training images.
        pids: (N,) of these images.
    """

    def __init__(
        self, model: ReIDModel, prompts: Callable[[], Tensor], captions: ImageCaptions, pids: Tensor
    ) -> None:
        self.model, self.prompts, self.captions = model, prompts, captions
        self.pids = pids.cpu().numpy()

    def __call__(self, epoch: int) -> Tensor:
        """Features (C, P) for a graph that this epoch builds."""
        return _in_place_of(self.prompts(), self.captions.draw_of_one_image(self.pids, epoch), self.model)


@torch.no_grad()
def _in_place_of(prompts: Tensor, drawn: Sequence[str | None], model: ReIDModel) -> Tensor:
    """The features (C, P) of prompts, with those of captions where identities have drawn some."""
    chosen, features = [pid for pid, text in enumerate(drawn) if text is not None], prompts.clone()
    for first in range(0, len(chosen), _AT_ONCE):
        pids = torch.tensor(chosen[first : first + _AT_ONCE], device=features.device)
        captions = model.encode_text(pids, [drawn[pid] for pid in pids.tolist()])
        features[pids] = captions.to(features.dtype)
    return features


# ---- stage 0


@dataclass(frozen=True)
class DescribedBatch(Batch):
    """B images (B, 3, H, W) with B captions, identities (B,) and B paths."""

    images: Tensor
    captions: list[str]
    pids: Tensor
    paths: list[str]


class DescribedBatches:
    """Batches of images with captions, one of which is drawn for each image in each epoch.

    Args:
        loader: of images that all have captions, with keys.
        captions: by key.
        seed: with the epoch it determines what is drawn.
    """

    def __init__(self, loader: ImageLoader, captions: Mapping[str, Sequence[str]], seed: int) -> None:
        self.loader, self._places = loader, {key: place for place, key in enumerate(captions)}
        self._captions = ImageCaptions(list(captions), captions, seed)
        self._rows = self._captions.draw(0)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Draw captions and order of this epoch, whose next pass begins with batch `start`."""
        self._rows = self._captions.draw(epoch)
        self.loader.batch_sampler.set_epoch(epoch, start)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator["_Loaded"]:
        for batch in self.loader:
            rows = self._rows[[self._places[key] for key in batch.keys]]
            yield _Loaded(batch, [self._captions.texts[row] for row in rows])


@dataclass(frozen=True)
class _Loaded:
    """A batch of a loader, whose bytes become floats on the device."""

    batch: ImageBatch
    captions: list[str]

    @property
    def pids(self) -> Tensor:
        return self.batch.pids

    @property
    def paths(self) -> list[str]:
        return self.batch.paths

    def to(self, device: torch.device | str) -> DescribedBatch:
        moved = self.batch.to(device)
        return DescribedBatch(moved.images, self.captions, moved.pids, moved.paths)


class CaptionObjective(Objective):
    """Stage 0: images and their captions, both ways, as text search has them (`loss.caption_loss`).

    Reports `acc_i2t` and `acc_t2i`, the shares of images and captions whose nearest of the batch is right.

    Args:
        model: its towers and the table of word embeddings are trained.
        temperature: divides the cosines.
        identity_targets: captions of all images of an identity are right.
    """

    def __init__(self, model: ReIDModel, temperature: float, *, identity_targets: bool = False) -> None:
        super().__init__()
        self.model, self.temperature, self.identity_targets = model, temperature, identity_targets

    def forward(self, batch: DescribedBatch) -> Step:
        """Losses of one batch of images with captions."""
        image = gather_batch(self.model.encode_image(batch.images)).float()
        text = gather_batch(self.model.encode_captions(batch.captions)).float()
        pids = gather_batch(batch.pids)
        if not self.identity_targets:
            pids = torch.arange(len(pids), device=pids.device)
        loss = caption_loss(image, text, self.temperature, pids)
        with torch.no_grad():
            unit = torch.nn.functional.normalize
            cosines = dot_products(unit(image, dim=1), unit(text, dim=1))
            right = {
                f"acc_{name}": (pids[scores.argmax(dim=1)] == pids).float().mean()
                for name, scores in (("i2t", cosines), ("t2i", cosines.T))
            }
        return Step({"caption": loss}, right, len(pids))
