"""Features of any images from any re-id checkpoint, without data set or configuration.

python tools/extract.py --weight logs/run/ViT-B-16_60.pth --images crops --out features.npz
The .npz holds features (not normalised), paths, keys, pictures (digests of the files), pids and camids (all
-1: unknown), info (JSON: how made).
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line
from config.errors import as_keys
from datasets import log_oddities
from model import CheckpointInfo, load_reid_model
from processor import extract
from tools.features.images import (
    add_image_options,
    check_image_options,
    find_images,
    pair,
    readable_batches,
)
from utils.device import select_device
from utils.distributed import gather_objects, is_first, process_group, rank
from utils.files import require_writable
from utils.launch import launched_processes, local_rank
from utils.logger import setup_logger
from utils.precision import inference_precision
from utils.text import Tally

_RESIZES = ("bilinear", "bicubic")
_logger = logging.getLogger("transreid.tools")


def extract_to_file(args: argparse.Namespace) -> None:
    """Write the features, not normalised, and in `info` what they were made with.

    Raises ValueError or OSError for wrong numbers, files that are missing or of another kind, and an output
    folder that cannot be written to; a former file at `--out` then stays.
    """
    check_image_options(args)
    if args.std and not all(value > 0 for value in args.std):
        raise ValueError(f"--std is {args.std}; allowed: numbers above 0")
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
            pair(args.size),
            name=args.model,
            stride=pair(args.stride),
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
    batches = readable_batches(paths, info, args, device)
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
    add_image_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    args = _parse(argv)
    with end_in_one_line():
        extract_to_file(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
