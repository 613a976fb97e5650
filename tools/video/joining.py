"""Features of tracks from those of their crops, and tracks of one person joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_FARTHEST = 5.0  # squared distances of rows of norm 1 are 4 at most


def _mean(features: Tensor, scores: Tensor) -> Tensor:
    return features.mean(dim=0)


def _best(features: Tensor, scores: Tensor) -> Tensor:
    return features[scores.argmax()]


# From features (n, D) and detection scores (n,) of the crops of a track to its feature (D,).
JOINS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": _mean, "best": _best}


def track_features(
    features: Tensor, rows: Sequence[Sequence[int]], scores: Sequence[Sequence[float]], join: str
) -> Tensor:
    """Features (T, D) of norm 1 of tracks whose crops have `rows` of features (N, D) of norm 1."""
    import torch

    chosen = [
        JOINS[join](features[list(own)], torch.tensor(found)) for own, found in zip(rows, scores, strict=True)
    ]
    return torch.nn.functional.normalize(torch.stack(chosen), dim=1)


def join_tracks(distances: np.ndarray, apart: np.ndarray, threshold: float) -> np.ndarray:
    """Numbers (T,) of people from 1: all tracks of one are at most `threshold` from each other.

    `distances` (T, T) are squared, `apart` (T, T) says which two tracks cannot be one person. People are
    merged pair by pair, the nearest first (complete linkage).
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(distances) == 1:
        return np.array([1])
    allowed = np.where(apart, _FARTHEST, distances)
    np.fill_diagonal(allowed, 0)
    merged = linkage(squareform(allowed, checks=False), "complete")
    return fcluster(merged, min(threshold, _FARTHEST - 1), "distance")
