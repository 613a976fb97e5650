"""Sparse k-reciprocal Jaccard distances of near pairs in one set of images.

Zhong, Zheng, Cao, Li, *Re-ranking Person Re-identification with k-reciprocal Encoding*, CVPR 2017, eq. 10.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from retrieval.distance import check_finite
from retrieval.neighbours.reranking import add_overlaps, reciprocal_encoding, rows_of


@torch.no_grad()
def jaccard_graph(features: Tensor, k1: int = 30, k2: int = 6, radius: float = 0.7) -> sparse.csr_array:
    """Jaccard distances (N, N), float32, of the pairs of features (N, D) that are at most `radius` apart.

    A pair without an entry is farther than `radius`; images at distance 0, including the image itself, are
    stored as zeros. Distances lie in 0..1 and are those of `k_reciprocal_blocks` with lam = 0, of the
    same neighbourhoods k1 and k2, searched on the features' device. The matrix is exactly symmetric, and
    its indices are sorted; memory is bounded by its entries and a block of distances.

    Raises ValueError for empty or non-finite features, k1 or k2 below 1, or a radius that is not between 0
    and 1: 1 is the distance of all pairs that share no neighbour.
    """
    check_features(features)
    if not 0 < radius < 1:
        raise ValueError(f"radius must be above 0 and below 1, got {radius}")
    weights, _ = reciprocal_encoding(features, k1, k2, np.float32)
    indices, distances = zip(*_near_pairs(weights, radius), strict=True)
    ends = np.cumsum([0, *map(len, indices)])
    if ends[-1] <= np.iinfo(np.int32).max:
        ends = ends.astype(np.int32)  # int64 would make all indices int64
    return sparse.csr_array((np.concatenate(distances), np.concatenate(indices), ends), shape=weights.shape)


def check_features(features: Tensor) -> None:
    """Raise ValueError unless features are a finite matrix (N, D) of at least one row."""
    if features.ndim != 2:
        raise ValueError(f"features must be a matrix (N, D), got shape {tuple(features.shape)}")
    if not len(features):
        raise ValueError("there are no features: at least one image is needed")
    check_finite("features", features)


def _near_pairs(
    weights: sparse.csr_array, radius: float
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Images at most `radius` away and their distances, for each row of V (N, N) in turn."""
    by_image = weights.tocsc()  # column j: which images have image j in their set
    rows = rows_of(weights, slice(0, len(weights.indptr) - 1))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        yield from pool.map(
            _near_row, itertools.count(), rows, itertools.repeat(by_image), itertools.repeat(radius)
        )


def _near_row(
    image: int,
    row: tuple[NDArray[np.integer], NDArray[np.float32]],
    by_image: sparse.csc_array,
    radius: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    overlap = torch.zeros(len(by_image.indptr) - 1)
    add_overlaps(overlap, by_image, row)
    near = overlap.numpy().nonzero()[0].astype(np.int32)
    shared = overlap.numpy()[near]
    # Rows of V sum to 1 within rounding only: it puts images at, and even below, a distance of nearly 0.
    distances = np.maximum(1 - shared / (2 - shared), 0)
    distances[near == image] = 0
    # In float32, as NumPy compares the entries to a Python number: `entries <= radius` holds for all.
    within = distances <= np.float32(radius)
    return near[within], distances[within]
