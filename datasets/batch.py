"""Batches with named fields, which loaders give to objectives and extraction."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from datasets.pixels.pairs import Pair
from datasets.pixels.transforms import PixelTransform
from datasets.records import CaptionRecord, ImageRecord
from utils.labels import NO_CAMERA

B = TypeVar("B", bound="Batch")


class Batch:
    """Base of batches, which are frozen dataclasses: every field that is a tensor moves with `to`."""

    def replace(self: B, **changes: Any) -> B:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def to(self: B, device: torch.device | str) -> B:
        """The batch with its tensors on the device; copies from pinned memory do not block."""
        return self.replace(**{name: value.to(device, non_blocking=True) for name, value in self._tensors()})

    def pin_memory(self: B) -> B:
        """The batch with its tensors in page-locked memory; DataLoader calls it if it pins."""
        return self.replace(**{name: value.pin_memory() for name, value in self._tensors()})

    def share_memory(self) -> None:
        """Move the tensors to memory that other processes see."""
        for _, value in self._tensors():
            value.share_memory_()

    def _tensors(self) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Tensor)]


@dataclass(frozen=True)
class ImageBatch(Batch):
    """B images (B, 3, H, W) float with pids, camids, viewids (B,) int64, B paths and B keys.

    The keys name the items; left out, they are the paths.
    """

    images: Tensor
    pids: Tensor
    camids: Tensor
    viewids: Tensor
    paths: list[str]
    keys: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.keys:
            object.__setattr__(self, "keys", list(self.paths))


@dataclass(frozen=True)
class LoadedBatch(ImageBatch):
    """A batch of a loader: images (B, 3, H, W) uint8, and `pixels`, which makes floats of them.

    `seeds` are those of the images' draws, for `pixels`; empty if nothing was drawn.
    """

    pixels: PixelTransform = dataclasses.field(kw_only=True)
    seeds: list[int] = dataclasses.field(kw_only=True)

    def to(self, device: torch.device | str) -> ImageBatch:
        """The batch on the device: bytes are moved, and become floats there."""
        moved = super().to(device)
        images = self.pixels(moved.images, self.seeds)
        return ImageBatch(images, moved.pids, moved.camids, moved.viewids, self.paths, self.keys)


@dataclass(frozen=True)
class CaptionBatch(Batch):
    """B sentences of identities (B,), with the B paths of the images that they describe and B keys."""

    captions: list[str]
    pids: Tensor
    paths: list[str]
    keys: list[str]

    @property
    def camids(self) -> Tensor:
        """(B,) of -1: a sentence has no camera."""
        return torch.full_like(self.pids, NO_CAMERA)


@dataclass(frozen=True)
class PairBatch(Batch):
    """B images (B, 3, H, W) float with B captions of them, identities (B,), B paths of images, B keys.

    `seeds` (B,) int64 are those of random numbers that training draws for each pair. `second_images` are
    other augmentations of the images, `first_views` and `second_views` views for self-supervision; None
    where no loss wants them.
    """

    images: Tensor
    captions: list[str]
    pids: Tensor
    paths: list[str]
    keys: list[str]
    seeds: Tensor
    second_images: Tensor | None = None
    first_views: Tensor | None = None
    second_views: Tensor | None = None


@dataclass(frozen=True)
class LoadedPairs(PairBatch):
    """A batch of a loader: images of each kind are uint8, and `pixels` makes floats of them."""

    pixels: PixelTransform = dataclasses.field(kw_only=True)

    def to(self, device: torch.device | str) -> PairBatch:
        """The batch on the device: bytes are moved, and become floats there."""
        moved = super().to(device)
        values = {field.name: getattr(moved, field.name) for field in dataclasses.fields(PairBatch)}
        for name in ("images", "second_images", "first_views", "second_views"):
            if values[name] is not None:
                values[name] = self.pixels(values[name])
        return PairBatch(**values)


def collate(items: Sequence[tuple[Tensor, ImageRecord, int | None]], pixels: PixelTransform) -> LoadedBatch:
    """Stack the items of an ImageDataset."""
    images, records, seeds = zip(*items, strict=True)
    batch = LoadedBatch(
        images=_stack(images),
        pids=torch.tensor([record.pid for record in records]),
        camids=torch.tensor([record.camid for record in records]),
        viewids=torch.tensor([record.viewid for record in records]),
        paths=[record.path for record in records],
        keys=[record.key for record in records],
        pixels=pixels,
        seeds=[seed for seed in seeds if seed is not None],
    )
    return _shared(batch)


def collate_pairs(items: Sequence[Pair], pixels: PixelTransform) -> LoadedPairs:
    """Stack the items of a PairDataset."""
    records = [item.record for item in items]
    second, *views = (
        None if images[0] is None else _stack(images)
        for images in zip(
            *((item.second_image, item.first_view, item.second_view) for item in items), strict=True
        )
    )
    batch = LoadedPairs(
        images=_stack([item.image for item in items]),
        captions=[item.caption for item in items],
        pids=torch.tensor([record.pid for record in records]),
        paths=[record.path for record in records],
        keys=[record.key for record in records],
        seeds=torch.tensor([item.seed for item in items]),
        second_images=second,
        first_views=views[0],
        second_views=views[1],
        pixels=pixels,
    )
    return _shared(batch)


def collate_captions(records: Sequence[CaptionRecord]) -> CaptionBatch:
    """The captions of a test."""
    return CaptionBatch(
        captions=[record.caption for record in records],
        pids=torch.tensor([record.pid for record in records]),
        paths=[record.path for record in records],
        keys=[record.key for record in records],
    )


def _stack(images: Sequence[Tensor]) -> Tensor:
    """(B, 3, H, W) of images (3, H, W)."""
    # Channels stay last in memory, as decoders leave them; the device reorders them faster.
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def _shared(batch: B) -> B:
    """The batch, in a worker with its tensors in shared memory."""
    if get_worker_info() is not None:
        # Here an error is one of the batch. Later, in the worker's queue, it would be printed and the batch
        # lost, for which the program then waits forever.
        batch.share_memory()
    return batch
