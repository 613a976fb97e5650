"""Options about a weights file, and loading the model that they describe."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from config.arguments import Parser
from config.errors import as_keys

if TYPE_CHECKING:
    from model import CheckpointInfo, DualModel, ReIDModel, TextSearchInfo

_ARGUMENTS = {"path": "--weight", "name": "--model", "size": "--size", "stride": "--stride"}


def add_weight_options(parser: Parser) -> None:
    """--model, --size, --stride, --neck, --sie_coe, --mean, --std and --resize."""
    add, rgb = parser.add_argument, {"type": float, "nargs": 3, "metavar": ("R", "G", "B")}
    card, pair = "default: the model card's", {"type": int, "nargs": 2}
    add("--model", metavar="NAME", help=f"MODEL.NAME ({card}, else from file name or shapes)")
    add("--size", **pair, metavar=("H", "W"), help=f"image size in pixels ({card}, else from shapes)")
    add("--stride", **pair, metavar=("V", "H"), help=f"MODEL.STRIDE_SIZE ({card}, else from shapes)")
    add("--neck", choices=("before", "after"), help=f"TEST.NECK_FEAT ({card}, else before)")
    add("--sie_coe", type=float, metavar="X", help=f"MODEL.SIE_COE of training ({card}, else 1.0)")
    add("--mean", **rgb, help=f"INPUT.PIXEL_MEAN ({card}, else as published: 0.5 each for ViT)")
    add("--std", **rgb, help=f"INPUT.PIXEL_STD ({card}, else as for --mean)")
    add("--resize", choices=("bilinear", "bicubic"), help=f"INPUT.TEST_RESIZE ({card}, else as published)")


def load_reid(
    args: argparse.Namespace, sie: tuple[int, int] | None = (1, 0)
) -> tuple[ReIDModel, CheckpointInfo]:
    """The re-id model in --weight by the options; `sie` and errors are those of `load_reid_model`."""
    from model import load_reid_model

    with as_keys(_ARGUMENTS):
        return load_reid_model(
            args.weight, sie=sie, sie_scale=args.sie_coe, neck_feature=args.neck, **_facts(args)
        )


def load_text_search(args: argparse.Namespace) -> tuple[DualModel, TextSearchInfo]:
    """The text search model in --weight by the options. Raises as `load_text_search_model` does.

    That is also for options which only re-id models have.
    """
    from model import load_text_search_model

    for option in ("neck", "sie_coe"):
        if getattr(args, option) is not None:
            raise ValueError(f"--{option} is given; allowed: with a re-id model, not {args.weight}")
    with as_keys(_ARGUMENTS):
        return load_text_search_model(args.weight, **_facts(args))


def _facts(args: argparse.Namespace) -> dict[str, Any]:
    if args.std and not all(value > 0 for value in args.std):
        raise ValueError(f"--std is {args.std}; allowed: numbers above 0")
    facts = {name: getattr(args, name) for name in ("size", "stride", "mean", "std")}
    return {name: value and tuple(value) for name, value in facts.items()} | {
        "name": args.model,
        "resize": args.resize,
    }
