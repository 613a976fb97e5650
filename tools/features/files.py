"""What the tools that work on feature files share: the options that name the files, and reading them."""

import argparse
import functools

from retrieval import RetrievalTask, k_reciprocal_blocks
from retrieval.distance import Rerank

_RERANK = {"k1": 50, "k2": 15, "lam": 0.3}  # as published
# What must be equal for features to be comparable. The weights' path may differ for one and the same file.
_MADE_WITH = ("size", "stride", "neck_feature", "pixel_mean", "pixel_std", "resize")


def add_feature_options(parser: argparse.ArgumentParser) -> None:
    """--features, --gallery and --normalize."""
    parser.add_argument(
        "--features",
        required=True,
        metavar="FILE",
        help="features.npz of a test program, or a file of tools/extract.py, whose images are searched among "
        "each other unless --gallery names a second one",
    )
    parser.add_argument(
        "--gallery", metavar="FILE", help="feature file in which all images of --features are searched"
    )
    parser.add_argument(
        "--normalize",
        choices=("yes", "no"),
        help="L2-normalise features first (default: what the test did, else yes)",
    )


def read_task(args: argparse.Namespace) -> RetrievalTask:
    """The task in the files that the options name, normalised as they say.

    Raises FileNotFoundError or ValueError for files that are missing or are no feature files.
    """
    task = RetrievalTask.load(args.features)
    if args.gallery:
        gallery = RetrievalTask.load(args.gallery)
        _require_same_model(task, gallery, args)
        task = RetrievalTask.between(task.images, gallery.images, task.info)
    wanted = args.normalize or ("yes" if task.info.get("normalize", True) else "no")
    task = RetrievalTask(task.images, task.trials, {**task.info, "normalize": wanted == "yes"})
    return task.normalized() if wanted == "yes" else task


def _require_same_model(query: RetrievalTask, gallery: RetrievalTask, args: argparse.Namespace) -> None:
    """Raise ValueError where the files say that their features cannot be compared."""
    for key in _MADE_WITH:
        theirs = _setting(query, key), _setting(gallery, key)
        if None not in theirs and theirs[0] != theirs[1]:
            raise ValueError(
                f"{args.features} and {args.gallery} were made with different settings, {key} "
                f"{theirs[0]} and {theirs[1]}; allowed: features of one model"
            )


def _setting(task: RetrievalTask, key: str) -> object:
    """What a file says of a setting; None: nothing."""
    # The programs have written the size ever since, and resized bilinearly before they wrote how.
    default = "bilinear" if key == "resize" and "size" in task.info else None
    return task.info.get(key, default)


def add_rerank_options(parser: argparse.ArgumentParser) -> None:
    """--rerank, --k1, --k2 and --lam."""
    parser.add_argument("--rerank", action="store_true", help="rank by k-reciprocal re-ranked distances")
    for option, kind, text in (
        ("--k1", int, "neighbours that may be reciprocal"),
        ("--k2", int, "neighbours averaged, 1: none"),
        ("--lam", float, "weight of the Euclidean distance, 0 to 1"),
    ):
        told = f"with --rerank: {text} (default: {_RERANK[option.removeprefix('--')]})"
        parser.add_argument(option, type=kind, metavar="N", help=told)


def rerank_settings(args: argparse.Namespace) -> dict[str, float] | None:
    """The settings of re-ranking that the options ask for; None is no re-ranking.

    Raises ValueError for settings without --rerank, which would change nothing.
    """
    given = {name: getattr(args, name) for name in _RERANK if getattr(args, name) is not None}
    if given and not args.rerank:
        raise ValueError(f"--{next(iter(given))} needs --rerank")
    return {**_RERANK, **given} if args.rerank else None


def reranker(args: argparse.Namespace) -> Rerank | None:
    """What `evaluate` takes for these options."""
    settings = rerank_settings(args)
    return functools.partial(k_reciprocal_blocks, **settings) if settings else None
