"""Compute all metrics from a feature file, without model, images or GPU.

python tools/evaluate.py --features logs/run/features.npz [--rerank] [--out metrics.json]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line
from tools.features.files import (
    about_features,
    add_feature_options,
    add_rerank_options,
    read_task,
    rerank_settings,
    reranker,
)
from utils.files import require_writable
from utils.logger import setup_logger


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    add_feature_options(parser)
    add_rerank_options(parser)
    parser.add_argument(
        "--max_rank", type=int, default=50, metavar="N", help="length of the CMC curve (default: %(default)s)"
    )
    parser.add_argument("--out", metavar="FILE", help="write the metrics with the CMC curve there, as JSON")
    args = parser.parse_args(argv)
    from retrieval import evaluate_task, log_metrics, write_metrics

    setup_logger(None, "")
    with end_in_one_line():
        if args.out:
            require_writable(args.out, "--out")
        task = read_task(args)
        rerank = reranker(args)
        with about_features(args):
            metrics = evaluate_task(task, args.max_rank, rerank)
        log_metrics(metrics, f"Validation Results of {len(task)} trial{'s' if len(task) > 1 else ''}")
        if args.out:
            write_metrics(args.out, metrics, {**task.info, "rerank": rerank_settings(args)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
