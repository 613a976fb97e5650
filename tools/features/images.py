"""Images that a command line names as batches for torch, without those that cannot be read."""

import argparse
import functools
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets import (
    ImageRecord,
    LoadedBatch,
    PixelTransform,
    collate,
    decode_image,
    find_oddities,
    resize_like_pil,
)
from model import CheckpointInfo, TextSearchInfo
from tools.features.finding import NoneReadableError
from utils.distributed import share
from utils.labels import NO_CAMERA, NO_PID
from utils.limits import allowed_workers
from utils.signals import leave_signals_to_parent
from utils.text import Tally
from utils.untrusted.pictures import open_picture, read_picture

_logger = logging.getLogger("transreid.tools")


class Item(NamedTuple):
    """An image uint8 (3, H, W), its record, no seed, and what `find_oddities` finds in its file."""

    image: tuple[Tensor, ImageRecord, None]
    oddities: tuple[str, ...]


class ReadableImages(Dataset[Item | str]):
    """Items, or one line that says why a file could not be read.

    With `upright` images are turned as their EXIF orientation says.
    """

    def __init__(
        self, paths: Sequence[str], size: tuple[int, int], interpolation: str, *, upright: bool = True
    ) -> None:
        self.paths = paths
        self.size = size
        self.interpolation = interpolation
        self.upright = upright

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Item | str:
        path = self.paths[index]
        try:
            data = read_picture(path)
            image = decode_image(path, upright=self.upright, data=data)
            with open_picture(path, data) as picture:
                oddities = find_oddities(picture)
        except (FileNotFoundError, ValueError) as error:
            return str(error)
        image = resize_like_pil(image, self.size, interpolation=self.interpolation)
        return Item((image, ImageRecord(path, NO_PID, NO_CAMERA, viewid=0), None), oddities)


class Load(NamedTuple):
    """A batch of the readable files among some, why each other file is left out, and their oddities."""

    batch: LoadedBatch | None
    reasons: list[str]
    oddities: Tally


def collate_readable(items: list[Item | str], pixels: PixelTransform) -> Load:
    """Stack the images among the items of ReadableImages; None when there are none."""
    read = [item for item in items if isinstance(item, Item)]
    reasons = [item for item in items if isinstance(item, str)]
    oddities = Tally()
    for (_, record, _), found in read:
        oddities.join(dict.fromkeys(found, (1, record.path)))
    return Load(collate([item.image for item in read], pixels) if read else None, reasons, oddities)


class ReadableBatches:
    """The batches of a loader of `Load`, whose last pass left out `unreadable` files; others had `oddities`.

    Each file left out is named in a warning. Raises NoneReadableError at the end when no file could be read;
    ValueError at the first that cannot if `strict`.
    """

    def __init__(self, loader: DataLoader[Load], *, strict: bool) -> None:
        self.loader = loader
        self.strict = strict
        self.unreadable = 0
        self.oddities = Tally()

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[LoadedBatch]:
        self.unreadable, self.oddities = 0, Tally()
        reason = ""
        for batch, reasons, oddities in self.loader:
            if reasons and self.strict:
                raise ValueError(reasons[0])
            for reason in reasons:
                _logger.warning("%s", reason)
            self.unreadable += len(reasons)
            self.oddities.join(oddities)
            if batch is not None:
                yield batch
        if self.unreadable == len(self.loader.dataset):
            raise NoneReadableError(f"{reason}; none of the {self.unreadable} images could be read")


def readable_batches(
    paths: Sequence[str],
    info: CheckpointInfo | TextSearchInfo,
    args: argparse.Namespace,
    device: torch.device,
) -> ReadableBatches:
    """This process's share of the images, prepared for the model of `info`, by `add_image_options`."""
    pixels = PixelTransform(info.mean, info.std)
    loader = DataLoader(
        ReadableImages(paths, info.size, info.resize, upright=args.orientation == "exif"),
        args.batch,
        sampler=share(len(paths)),
        num_workers=allowed_workers(args.workers),
        worker_init_fn=leave_signals_to_parent,
        pin_memory=device.type == "cuda",
        collate_fn=functools.partial(collate_readable, pixels=pixels),
    )
    return ReadableBatches(loader, strict=args.strict)
