"""Images that a command line names: finding them, reading those that can be read, options."""

import argparse
import functools
import glob
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from config.arguments import Parser
from datasets import (
    ImageRecord,
    LoadedBatch,
    PixelTransform,
    collate,
    decode_image,
    find_oddities,
    num_workers,
    resize_like_pil,
)
from model import CheckpointInfo, TextSearchInfo
from utils.distributed import share
from utils.labels import NO_CAMERA, NO_PID
from utils.limits import allowed_workers
from utils.precision import CHOICES
from utils.text import Tally
from utils.untrusted.folders import find_files, find_folders
from utils.untrusted.pictures import open_picture, picture_suffixes, read_picture
from utils.untrusted.plain import read_plain_lines

_ANY_DEPTH = re.compile(r"(?:^|(?<=/))(?:\*\*(?:/|$))+")
_logger = logging.getLogger("transreid.tools")


def find_images(sources: Sequence[str]) -> list[str]:
    """Image paths that the sources name, in their order, each path once.

    A source is a folder (searched to any depth by `find_files`), a .txt file of paths, a pattern with * ? []
    ** (sorted), or an image file. Of several sources each real file is taken once. One warning counts what is
    left out. Whether the files are images is not looked at. Raises FileNotFoundError for a source without
    any, ValueError for a .txt file that is not UTF-8.
    """
    left_out = Tally()
    paths: dict[str, str] = {}
    for path in (str(path) for source in sources for path in _expand(source, left_out)):
        real = os.path.realpath(path) if len(sources) > 1 else path
        if real in paths:
            left_out.add("named twice", path)
        paths.setdefault(real, path)
    if left_out:
        _logger.warning("--images: not read: %s", left_out)
    return list(paths.values())


def _expand(source: str, left_out: Tally) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        found = find_files(path, picture_suffixes(), left_out)
    elif path.exists() and path.suffix.lower() == ".txt":
        found = [Path(line.strip()) for line in read_plain_lines(path) if line.strip()]
    elif path.exists():
        found = [path]
    else:
        found = sorted(Path(name) for name in _match(source) if os.path.isfile(name))
    if not found:
        hint = f"; not read: {left_out}" if left_out else ""
        kinds = " ".join(sorted(picture_suffixes(), key=lambda suffix: suffix != ".jpg"))
        raise FileNotFoundError(
            f"--images {source}: no image there; allowed: a folder of {kinds}, "
            f"a .txt file with a path a line, a pattern in quotes, an image{hint}"
        )
    return found


def _match(pattern: str) -> list[str]:
    """What glob finds, but `**` enters each real folder once: glob follows links that lead in circles."""
    deep = _ANY_DEPTH.search(pattern)
    if not deep:
        return glob.glob(pattern)
    bases = glob.glob(pattern[: deep.start()]) if deep.start() else ["."]
    folders = (folder for base in bases if os.path.isdir(base) for folder in find_folders(base))
    rest = pattern[deep.end() :] or "*"
    return [name for folder in folders for name in _match(os.path.join(glob.escape(str(folder)), rest))]


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


class NoneReadableError(ValueError):
    """None of the images could be read."""


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
        pin_memory=device.type == "cuda",
        collate_fn=functools.partial(collate_readable, pixels=pixels),
    )
    return ReadableBatches(loader, strict=args.strict)


def add_image_options(parser: Parser) -> None:
    """--orientation, --device, --amp, --batch, --workers and --strict."""
    add = parser.add_argument
    add(
        "--orientation",
        choices=("exif", "stored"),
        default="exif",
        help="'exif' (default) turns images as their EXIF orientation says, 'stored' leaves them as they lie",
    )
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cuda (default): the GPU if there is one")
    add("--amp", choices=CHOICES, default="off", help="precision, TEST.AMP (default: off, float32)")
    add("--batch", type=int, default=128, metavar="N", help="images at once (default: %(default)s)")
    add(
        "--workers",
        type=int,
        default=num_workers(-1),
        metavar="N",
        help="processes that load images, 0: none besides this one (default: the processors, %(default)s)",
    )
    add("--strict", action="store_true", help="an image that cannot be read is an error; else it is left out")


def check_image_options(args: argparse.Namespace) -> None:
    """Raise ValueError for numbers that no run can have."""
    if args.batch < 1:
        raise ValueError(f"--batch is {args.batch}; allowed: 1 or more")
    if args.workers < 0:
        raise ValueError(f"--workers is {args.workers}; allowed: 0 or more")


def pair(numbers: Sequence[int] | None) -> tuple[int, int] | None:
    """Two numbers of an option, such as --size."""
    return (numbers[0], numbers[1]) if numbers else None
