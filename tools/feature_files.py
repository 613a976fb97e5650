"""What the tools that work on feature files share: the options that name the files, and reading them."""

import argparse
import functools

from retrieval import FeatureSet, RetrievalTask, k_reciprocal_blocks
from retrieval.distance import Rerank


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
        task = RetrievalTask.between(task.images, FeatureSet.load(args.gallery), task.info)
    wanted = args.normalize or ("yes" if task.info.get("normalize", True) else "no")
    return task.normalized() if wanted == "yes" else task


def add_rerank_options(parser: argparse.ArgumentParser) -> None:
    """--rerank, --k1, --k2 and --lam."""
    parser.add_argument("--rerank", action="store_true", help="rank by k-reciprocal re-ranked distances")
    parser.add_argument(
        "--k1",
        type=int,
        default=50,
        metavar="N",
        help="neighbours that may be reciprocal (default: %(default)s)",
    )
    parser.add_argument(
        "--k2", type=int, default=15, metavar="N", help="neighbours averaged, 1: none (default: %(default)s)"
    )
    parser.add_argument(
        "--lam",
        type=float,
        default=0.3,
        help="weight of the Euclidean distance, 0 to 1 (default: %(default)s)",
    )


def rerank_settings(args: argparse.Namespace) -> dict[str, float] | None:
    """The settings of re-ranking that the options ask for; None is no re-ranking."""
    return {"k1": args.k1, "k2": args.k2, "lam": args.lam} if args.rerank else None


def reranker(args: argparse.Namespace) -> Rerank | None:
    """What `evaluate` takes for these options."""
    settings = rerank_settings(args)
    return functools.partial(k_reciprocal_blocks, **settings) if settings else None
