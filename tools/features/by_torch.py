"""Features of images from a checkpoint, in torch."""

import argparse
import logging
from collections.abc import Sequence

import torch

from datasets import log_oddities
from model import CheckpointInfo
from processor import extract
from tools.features.finding import check_image_options, find_images
from tools.features.images import readable_batches
from tools.features.weights import load_reid
from utils.device import select_device
from utils.distributed import gather_objects, is_first, process_group, rank
from utils.files import require_writable
from utils.launch import launched_processes, local_rank
from utils.logger import setup_logger
from utils.precision import inference_precision
from utils.text import Tally

_logger = logging.getLogger("transreid.tools")


def extract_to_file(args: argparse.Namespace) -> None:
    """Write the features, not normalised, and in `info` what they were made with.

    Raises ValueError or OSError for wrong numbers, files that are missing or of another kind, and an output
    folder that cannot be written to; a former file at `--out` then stays.
    """
    check_image_options(args)
    require_writable(args.out, "--out")
    several = launched_processes() > 1
    device = select_device(args.device, str(local_rank()) if several else "0")
    with process_group(device):
        setup_logger(None, "", rank=rank())
        _extract(args, find_images(args.images), device)


def _extract(args: argparse.Namespace, paths: Sequence[str], device: torch.device) -> None:
    model, info = load_reid(args)  # the cameras of the images are not known
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
            "model_sha256": info.fingerprint,
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
