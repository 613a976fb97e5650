"""Features of any images from any re-id checkpoint, without data set or configuration.

python tools/extract.py --weight logs/run/ViT-B-16_60.pth --images crops --out features.npz
The .npz holds features (not normalised), paths, keys, pictures (digests of the files), pids and camids (all
-1: unknown), info (JSON: how made).
"""

import argparse
import functools
import glob
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line
from config.errors import as_keys
from datasets import (
    ImageRecord,
    LoadedBatch,
    PixelTransform,
    collate,
    decode_image,
    find_oddities,
    log_oddities,
    num_workers,
    resize_like_pil,
)
from model import CheckpointInfo, load_reid_model
from processor import extract
from utils.device import select_device
from utils.distributed import (
    gather_objects,
    is_first,
    process_group,
    rank,
    share,
)
from utils.files import require_writable
from utils.labels import NO_CAMERA, NO_PID
from utils.launch import launched_processes, local_rank
from utils.limits import allowed_workers
from utils.logger import setup_logger
from utils.precision import CHOICES, inference_precision
from utils.text import Tally
from utils.untrusted.folders import find_files, find_folders
from utils.untrusted.pictures import open_picture, picture_suffixes, read_picture
from utils.untrusted.plain import read_plain_lines

_ANY_DEPTH = re.compile(r"(?:^|(?<=/))(?:\*\*(?:/|$))+")
_RESIZES = ("bilinear", "bicubic")
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


class ReadableBatches:
    """The batches of a loader of `Load`, whose last pass left out `unreadable` files; others had `oddities`.

    Each file left out is named in a warning. Raises ValueError at the end when no file could be read; if
    `strict`, at the first that cannot.
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
            raise ValueError(f"{reason}; none of the {self.unreadable} images could be read")


def extract_to_file(args: argparse.Namespace) -> None:
    """Write the features, not normalised, and in `info` what they were made with.

    Raises ValueError or OSError for wrong numbers, files that are missing or of another kind, and an output
    folder that cannot be written to; a former file at `--out` then stays.
    """
    _check_numbers(args)
    require_writable(args.out, "--out")
    several = launched_processes() > 1
    device = select_device(args.device, str(local_rank()) if several else "0")
    with process_group(device):
        setup_logger(None, "", rank=rank())
        _extract(args, find_images(args.images), device)


def _extract(args: argparse.Namespace, paths: Sequence[str], device: torch.device) -> None:
    with as_keys({"name": "--model", "size": "--size", "stride": "--stride"}):
        model, info = load_reid_model(
            args.weight,
            _pair(args.size),
            name=args.model,
            stride=_pair(args.stride),
            sie=(1, 0),  # the cameras of the images are not known
            sie_scale=args.sie_coe,
            neck_feature=args.neck,
            mean=args.mean and tuple(args.mean),
            std=args.std and tuple(args.std),
            resize=args.resize,
        )
    _logger.info(
        "%s: %s, %d x %d pixels, %s, normalised with mean %s and std %s, feature %s the neck; %s",
        args.weight,
        info.name or info.kind,
        *info.size,
        info.resize,
        list(info.mean),
        list(info.std),
        info.neck,
        _source(args, info),
    )
    if info.side_rows:
        _logger.info("SIE by the mean of the %d rows, times %g", info.side_rows, info.sie_scale)
    loader = DataLoader(
        ReadableImages(paths, info.size, info.resize, upright=args.orientation == "exif"),
        args.batch,
        sampler=share(len(paths)),
        num_workers=allowed_workers(args.workers),
        pin_memory=device.type == "cuda",
        collate_fn=functools.partial(collate_readable, pixels=PixelTransform(info.mean, info.std)),
    )
    batches = ReadableBatches(loader, strict=args.strict)
    precision = inference_precision(args.amp, device)
    _logger.info("extracting in %s", precision.name)
    features = extract(model, batches, device, precision=precision)
    unreadable = sum(gather_objects(batches.unreadable))
    oddities = Tally()
    for found in gather_objects(batches.oddities):
        oddities.join(found)
    if not is_first():
        return
    # `normalize` is advice to whoever evaluates: the features are stored as the model gives them.
    features.with_pictures().save(
        args.out,
        {
            "weight": args.weight,
            "model": info.name or info.kind,
            "size": info.size,
            "stride": info.stride,
            "neck_feature": info.neck,
            "pixel_mean": info.mean,
            "pixel_std": info.std,
            "resize": info.resize,
            "orientation": args.orientation,
            "precision": precision.name,
            "normalize": True,
            "dataset": None,
        },
    )
    log_oddities(oddities, len(paths))
    if unreadable:
        _logger.warning(
            "%d of %d images could not be read and are not in %s", unreadable, len(paths), args.out
        )
    count, width = features.features.shape
    _logger.info("%d features of width %d written to %s", count, width, args.out)


def _check_numbers(args: argparse.Namespace) -> None:
    if args.batch < 1:
        raise ValueError(f"--batch is {args.batch}; allowed: 1 or more")
    if args.workers < 0:
        raise ValueError(f"--workers is {args.workers}; allowed: 0 or more")
    if args.std and not all(value > 0 for value in args.std):
        raise ValueError(f"--std is {args.std}; allowed: numbers above 0")


def _pair(numbers: Sequence[int] | None) -> tuple[int, int] | None:
    return (numbers[0], numbers[1]) if numbers else None


def _source(args: argparse.Namespace, info: CheckpointInfo) -> str:
    """A line about where the settings of images and features come from."""
    options = ("size", "stride", "mean", "std", "resize", "neck", "sie_coe")
    given = [f"--{option}" for option in options if getattr(args, option) is not None]
    rest = "as published, without a model card" if info.card is None else "by the model card"
    return f"{', '.join(given)} given, all else {rest}" if given else rest


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, allow_abbrev=False)
    add, rgb = parser.add_argument, {"type": float, "nargs": 3, "metavar": ("R", "G", "B")}
    card = "default: the model card's"
    add("--weight", required=True, metavar="FILE", help="re-id checkpoint of any of the programs")
    add(
        "--images",
        required=True,
        nargs="+",
        metavar="WHAT",
        help="folders, .txt files with a path a line, patterns in quotes ('crops/**/*.jpg'), images",
    )
    add("--out", required=True, type=Path, metavar="FILE", help="feature file to write, e.g. features.npz")
    add("--model", metavar="NAME", help=f"MODEL.NAME ({card}, else from file name or shapes)")
    pair = {"type": int, "nargs": 2}
    add("--size", **pair, metavar=("H", "W"), help=f"image size in pixels ({card}, else from shapes)")
    add("--stride", **pair, metavar=("V", "H"), help=f"MODEL.STRIDE_SIZE ({card}, else from shapes)")
    add("--neck", choices=("before", "after"), help=f"TEST.NECK_FEAT ({card}, else before)")
    add("--sie_coe", type=float, metavar="X", help=f"MODEL.SIE_COE of training ({card}, else 1.0)")
    add("--mean", **rgb, help=f"INPUT.PIXEL_MEAN ({card}, else 0.5 each for ViT, ImageNet's for ResNet)")
    add("--std", **rgb, help=f"INPUT.PIXEL_STD ({card}, else as for --mean)")
    add("--resize", choices=_RESIZES, help=f"INPUT.TEST_RESIZE ({card}, else bilinear)")
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
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    args = _parse(argv)
    with end_in_one_line():
        extract_to_file(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
