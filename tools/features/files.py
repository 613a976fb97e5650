"""Options of the tools that work on feature files, and reading the files that they name."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from config.arguments import Parser

if TYPE_CHECKING:
    from retrieval import Rerank, RetrievalTask

_RERANK = {"k1": 50, "k2": 15, "lam": 0.3}  # as published
# Features are comparable only where these are equal. The path of one weights file may differ.
_MADE_WITH = ("size", "stride", "neck_feature", "pixel_mean", "pixel_std", "resize", "augment")


def add_feature_options(parser: Parser) -> None:
    """--features, --gallery, --swap and --normalize."""
    parser.add_argument(
        "--features",
        required=True,
        metavar="FILE",
        help="features.npz of a test program, or a file of tools/extract.py, whose images are searched among "
        "each other unless --gallery names a second one",
    )
    parser.add_argument(
        "--gallery",
        metavar="FILE",
        help="feature file whose images, queries too, are the gallery of all images of --features",
    )
    parser.add_argument(
        "--swap",
        action="store_true",
        help="search the other way: queries and gallery change places, as in a search of texts by images",
    )
    parser.add_argument(
        "--normalize",
        choices=("yes", "no"),
        help="L2-normalise features first (default: what the test did, else yes)",
    )


def read_task(args: argparse.Namespace) -> RetrievalTask:
    """The task in the files that the options name, normalised as they say, with all names of pictures.

    Raises FileNotFoundError or ValueError for missing files and for files of another kind.
    """
    from retrieval import RetrievalTask

    task = RetrievalTask.load(args.features)
    if args.gallery:
        gallery = RetrievalTask.load(args.gallery)
        _require_same_model(task, gallery, args)
        joined = RetrievalTask.between(task.images, gallery.images, task.info, _one_rule(args.features, task))
        with about_features(args):
            task = replace(joined, names=task.names.joined(gallery.names))
    if args.swap:
        task = replace(task.swapped(), info={**task.info, "swapped": True})
    wanted = args.normalize or ("yes" if task.info.get("normalize", True) else "no")
    task = replace(task, info={**task.info, "normalize": wanted == "yes"}).with_pictures()
    return task.normalized() if wanted == "yes" else task


@contextmanager
def about_features(args: argparse.Namespace) -> Iterator[None]:
    """Names the feature files in errors about what they hold, which do not know where it came from."""
    try:
        yield
    except ValueError as error:
        if args.features in str(error):
            raise
        files = " and ".join(filter(None, (args.features, args.gallery)))
        raise ValueError(f"{error} (in {files})") from error


def _require_same_model(query: RetrievalTask, gallery: RetrievalTask, args: argparse.Namespace) -> None:
    """Raise ValueError where the files say that their features cannot be compared."""
    for key in _MADE_WITH:
        theirs = _setting(query, key), _setting(gallery, key)
        if None not in theirs and theirs[0] != theirs[1]:
            raise ValueError(
                f"{args.features} and {args.gallery} were made with different settings, {key} "
                f"{theirs[0]} and {theirs[1]}; allowed: features of one model"
            )


def _one_rule(path: str, task: RetrievalTask) -> str:
    """The rule of a task's trials. Raises ValueError where they have several."""
    rules = sorted({trial.rule for trial in task.trials})
    if len(rules) > 1:
        raise ValueError(f"{path} has trials under the rules {', '.join(rules)}; allowed with --gallery: one")
    return rules[0]


def _setting(task: RetrievalTask, key: str) -> object:
    """A file's value of a setting, None where it has none."""
    # Files with a size but without `resize` or `augment` come from a version that had one kind only, or from
    # a tool that has.
    defaults = {"resize": "bilinear", "augment": "none"} if "size" in task.info else {}
    return task.info.get(key, defaults.get(key))


def add_rerank_options(parser: Parser) -> None:
    """--rerank, --k1, --k2 and --lam."""
    parser.add_argument("--rerank", action="store_true", help="rank by k-reciprocal re-ranked distances")
    for option, kind, text in (
        ("--k1", int, "neighbours that may be reciprocal"),
        ("--k2", int, "neighbours averaged, 1: none"),
        ("--lam", float, "weight of the Euclidean distance, 0 to 1"),
    ):
        help_text = f"with --rerank: {text} (default: {_RERANK[option.removeprefix('--')]})"
        parser.add_argument(option, type=kind, metavar="N", help=help_text)


def rerank_settings(args: argparse.Namespace) -> dict[str, float] | None:
    """The settings of re-ranking in the options; None is no re-ranking.

    Raises ValueError for settings without --rerank, which would change nothing.
    """
    given = {name: getattr(args, name) for name in _RERANK if getattr(args, name) is not None}
    if given and not args.rerank:
        raise ValueError(f"--{next(iter(given))} needs --rerank")
    return {**_RERANK, **given} if args.rerank else None


def reranker(args: argparse.Namespace) -> Rerank | None:
    """The `rerank` argument of `evaluate` for these options."""
    from retrieval import k_reciprocal_blocks

    settings = rerank_settings(args)
    return functools.partial(k_reciprocal_blocks, **settings) if settings else None
