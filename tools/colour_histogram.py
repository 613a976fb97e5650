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

STRIPES = 6
BINS = (16, 4, 4)  # hue, saturation, value
_AT_A_TIME = 1 << 16  # pixels converted to HSV, which takes about 100 bytes for each


def colour_histogram(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Feature (STRIPES * 256,) of an RGB image (H, W, 3): square roots of each stripe's HSV histogram.

    With the roots, Euclidean distance is Hellinger's distance of histograms. H is STRIPES or more.
    """
    from skimage.color import rgb2hsv

    histograms = []
    for stripe in np.array_split(image, STRIPES):
        pixels, counts = stripe.reshape(-1, 3), np.zeros(BINS)
        for start in range(0, len(pixels), _AT_A_TIME):
            colours = rgb2hsv(pixels[start : start + _AT_A_TIME])
            counts += np.histogramdd(colours, BINS, range=((0, 1),) * 3)[0]
        histograms.append(np.sqrt(counts.ravel() / len(pixels)))
    return np.concatenate(histograms).astype(np.float32)


def report(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Print Rank-1 and mAP, the mean over the data set's trials."""
    require_extra("draw")
    import torch

    from datasets import make_dataset, read_image
    from retrieval import FeatureSet, RetrievalMetrics, evaluate

    dataset = make_dataset(cfg, need_train=False)
    features: dict[str, NDArray[np.float32]] = {}
    for record in dataset.test_records():
        image = np.asarray(read_image(record.path, upright=dataset.upright))
        if len(image) < STRIPES:
            raise ValueError(f"{record.path}: {len(image)} pixels high; allowed: {STRIPES} or more")
        features[record.key] = colour_histogram(image)

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
