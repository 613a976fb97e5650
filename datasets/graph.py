"""Which classes are hard to tell apart: the nearest neighbours of each, by features of the classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

DISTANCES = ("cosine", "dot")
_AT_ONCE = 2**24  # similarities of a block: 64 MB


@torch.no_grad()
def nearest_classes(features: Tensor, count: int, distance: str = "cosine") -> Tensor:
    """For each of C classes the `count` others that are nearest: (C, count) int64, nearest first.

    Of equally near classes the lower number comes first. The whole matrix of distances is never in memory.

    Args:
        features: (C, D), one row a class.
        count: 1 to C - 1.
        distance: 'cosine' compares directions, 'dot' takes products of features as they are: the larger the
            product, the nearer.

    Raises ValueError for other values, and for features that are not finite.
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance is {distance!r}; allowed: {', '.join(map(repr, DISTANCES))}")
    if features.ndim != 2:
        raise ValueError(f"features has the shape {tuple(features.shape)}; allowed: (classes, width)")
    classes = len(features)
    if not 1 <= count < classes:
        raise ValueError(f"count is {count}; allowed with {classes} classes: 1 to {classes - 1}")
    if not features.isfinite().all():
        raise ValueError("features has values that are not finite; allowed: numbers")
    features = features.float()
    if distance == "cosine":
        features = F.normalize(features)
    rows = max(_AT_ONCE // classes, 1)
    return torch.cat([_nearest(features, first, rows, count) for first in range(0, classes, rows)])


def _nearest(features: Tensor, first: int, rows: int, count: int) -> Tensor:
    """The neighbours of the classes from `first` on, up to `rows` of them."""
    similarity = features[first : first + rows] @ features.T  # (rows, C)
    similarity.diagonal(first).fill_(-torch.inf)
    values, found = similarity.topk(count)
    # topk promises no order among equals, nor which of them it takes where there are more.
    tied = (similarity >= values[:, -1:]).sum(dim=1) > count
    found = found.sort(dim=1).values
    order = similarity.gather(1, found).sort(dim=1, descending=True, stable=True).indices
    found = found.gather(1, order)
    if tied.any():
        ranked = similarity[tied].sort(dim=1, descending=True, stable=True).indices
        found[tied] = ranked[:, :count]
    return found
