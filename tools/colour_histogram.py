"""The baseline that needs no training: rank by HSV colour histograms of horizontal stripes.

Takes settings as the programs do:
python tools/colour_histogram.py DATASETS.NAMES market1501 DATASETS.ROOT_DIR data
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from yacs.config import CfgNode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config import cfg as defaults
from config.arguments import run_program, say
from utils.package import require_extra

if TYPE_CHECKING:
    from datasets import ImageRecord
    from retrieval import FeatureSet


def report(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Print Rank-1 and mAP, the mean over the data set's trials."""
    require_extra("draw")
    import torch

    from datasets import colours_of, make_dataset
    from retrieval import FeatureSet, RetrievalMetrics, evaluate

    dataset = make_dataset(cfg, need_train=False)
    features: dict[str, NDArray[np.float32]] = {}
    for record in dataset.test_records():
        features[record.key] = colours_of(record.path, upright=dataset.upright)

    def feature_set(records: Sequence[ImageRecord]) -> FeatureSet:
        return FeatureSet(
            torch.from_numpy(np.stack([features[record.key] for record in records])),
            [record.pid for record in records],
            [record.camid for record in records],
            [record.path for record in records],
            [record.key for record in records],
        )

    scores = RetrievalMetrics.mean(
        [
            evaluate(feature_set(trial.query), feature_set(trial.gallery), rule=trial.rule)
            for trial in dataset.trials
        ]
    )
    rates = 100 * scores.rank(1), 100 * scores.mAP
    say("%s: Rank-1 %.1f%%, mAP %.1f%% (HSV colour histogram)", dataset.name, *rates)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong setting or file."""
    return run_program(report, defaults, description=__doc__, default_config="", argv=argv)


if __name__ == "__main__":
    sys.exit(main())
