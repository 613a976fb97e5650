"""What the tools that work on feature files share: the options that name the files, and reading them."""

import argparse

from retrieval import FeatureSet, RetrievalTask


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
    if args.gallery:
        task = RetrievalTask.between(FeatureSet.load(args.features), FeatureSet.load(args.gallery))
    else:
        task = RetrievalTask.load(args.features)
    wanted = args.normalize or ("yes" if task.info.get("normalize", True) else "no")
    return task.normalized() if wanted == "yes" else task
