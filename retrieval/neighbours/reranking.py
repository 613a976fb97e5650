"""k-reciprocal re-ranking over all query and gallery images.

Zhong, Zheng, Cao, Li, *Re-ranking Person Re-identification with k-reciprocal Encoding*, CVPR 2017, arXiv
1701.08398.

Sets of images and their weights V are sparse (N, N) matrices, N = Q + G: intersections of sets, their
expansion and the query expansion are sparse products, and no dense (N, N) matrix is ever held.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from retrieval.distance import check_pair, euclidean_blocks, squared_norms


def k_reciprocal_distance(
    query: Tensor,
    gallery: Tensor,
    k1: int = 50,
    k2: int = 15,
    lam: float = 0.3,
    *,
    dtype: type[np.floating] = np.float16,
) -> Tensor:
    """(1−lam)·Jaccard + lam·Euclid: distances (Q, G), float32 on the CPU, of query (Q, D) and gallery (G, D).

    The blocks of `k_reciprocal_blocks` in one matrix; arguments and errors are its own.
    """
    blocks = k_reciprocal_blocks(query, gallery, k1, k2, lam, dtype=dtype)
    final = torch.empty(len(query), len(gallery))
    for rows, distance in blocks:
        final[rows] = distance
    return final


@torch.no_grad()
def k_reciprocal_blocks(
    query: Tensor,
    gallery: Tensor,
    k1: int = 50,
    k2: int = 15,
    lam: float = 0.3,
    *,
    dtype: type[np.floating] = np.float16,
) -> Iterator[tuple[slice, Tensor]]:
    """Re-ranked distances in blocks (rows, (rows, G)), float32 on the CPU, as `evaluate` reads them.

    Euclid is the squared Euclidean distance, each row divided by the largest distance of its image to any
    image. Nearest neighbours include the image itself, always first, and are searched on the features'
    device; equal distances come in the order of the images, queries first. With fewer images than k1 + 1,
    round(k1 / 2) + 1 or k2, that neighbourhood is all images; k2 = 1 turns query expansion off. `dtype` is
    the type of V and of the sums over it: float16 as in the published numbers, float64 for exact ones. At the
    size of Market-1501 the distances differ by up to 0.02, the mAP by 1e-6.

    Raises ValueError for empty, non-finite or mismatched features, k1 or k2 below 1, or lam outside 0..1.
    """
    check_pair(query, gallery)
    if not 0 <= lam <= 1:
        raise ValueError(f"lam must be in 0..1, got {lam}")
    weights, largest = reciprocal_encoding(torch.cat([query, gallery]), k1, k2, dtype)
    yield from _mixed(query, gallery, weights, largest[: len(query)], lam, dtype)


def reciprocal_encoding(
    features: Tensor, k1: int, k2: int, dtype: type[np.floating]
) -> tuple[sparse.csr_array, Tensor]:
    """V (N, N) of features (N, D) after the query expansion: eq. 7 and eq. 11; largest distances (N,).

    V is float32 whose values `dtype` can hold, its indices are sorted; neighbourhoods are those of
    `k_reciprocal_blocks`, distances squared. Raises ValueError when k1 or k2 is below 1.
    """
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 must be at least 1, got k1 = {k1} and k2 = {k2}")
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    neighbours, largest = nearest_neighbours(features, max(k1 + 1, k2))
    reciprocal = reciprocal_sets(neighbours[:, : k1 + 1])
    members = expand_sets(reciprocal, reciprocal_sets(neighbours[:, : round(k1 / 2) + 1]))
    weights = encode(members, features, largest)
    weights.data = weights.data.astype(dtype).astype(np.float32)  # scipy multiplies in float32 or more
    if k2 > 1:
        expansion = neighbour_matrix(neighbours[:, :k2]).astype(np.float32)
        weights = sparse.csr_array((expansion @ weights) / np.float32(min(k2, len(features))))
        weights.data = weights.data.astype(dtype).astype(np.float32)
    weights.sort_indices()
    return weights, largest


def nearest_neighbours(features: Tensor, k: int) -> tuple[NDArray[np.int32], Tensor]:
    """Indices (N, min(k, N)) of the nearest of features (N, D), nearest first; largest distances (N,)."""
    count = len(features)
    neighbours = np.empty((count, min(k, count)), dtype=np.int32)
    largest = torch.empty(count, dtype=features.dtype, device=features.device)
    for rows, distance in euclidean_blocks(features, features):
        largest[rows] = distance.amax(1)
        # Below every distance: neither rounding nor a duplicate may push an image out of its own neighbours.
        distance[:, rows].fill_diagonal_(-1)
        neighbours[rows] = smallest(distance, neighbours.shape[1]).cpu().numpy()
    # Where all images are equal there is nothing to divide: the distances stay 0.
    return neighbours, torch.where(largest > 0, largest, 1.0)


def smallest(distance: Tensor, k: int) -> Tensor:
    """Columns (R, k) of the k smallest of each row of distance (R, G), in order; of equal ones the first."""
    values, columns = distance.topk(min(k + 1, distance.shape[1]), dim=1, largest=False)
    if values.shape[1] > k:
        # Where more images have the k-th value than there is room for, topk takes any of them.
        for row in (values[:, k - 1] == values[:, k]).nonzero().flatten().tolist():
            columns[row] = distance[row].sort(stable=True).indices[: k + 1]
            values[row] = distance[row, columns[row]]
        values, columns = values[:, :k], columns[:, :k]
    columns, by_column = columns.sort(dim=1)
    by_value = values.gather(1, by_column).sort(dim=1, stable=True).indices
    return columns.gather(1, by_value)


def neighbour_matrix(neighbours: np.ndarray) -> sparse.csr_array:
    """Indicator (N, N) of neighbours (N, k): entry (i, j) is 1 where j is listed in row i."""
    count, k = neighbours.shape
    ones = np.ones(count * k, dtype=np.int32)
    return sparse.csr_array((ones, neighbours.ravel(), np.arange(0, count * k + 1, k)), shape=(count, count))


def reciprocal_sets(neighbours: np.ndarray) -> sparse.csr_array:
    """Indicator (N, N) of R(i) = {j in N(i): i in N(j)} for neighbours (N, k): eq. 3."""
    forward = neighbour_matrix(neighbours)
    return sparse.csr_array(forward.multiply(forward.T))


def expand_sets(reciprocal: sparse.csr_array, half: sparse.csr_array) -> sparse.csr_array:
    """Matrix (N, N), non-zero on R(i) and on R½(j), j in R(i), where over ⅔ of R½(j) is in R(i): eq. 5."""
    overlap = sparse.coo_array((reciprocal @ half.T).multiply(reciprocal))  # |R(i) ∩ R½(j)| at (i, j)
    size = half.sum(axis=1)
    rows, columns = overlap.coords
    # In whole numbers: an overlap of exactly ⅔ must not count through rounding.
    accepted = 3 * overlap.data > 2 * size[columns]
    ones = np.ones(accepted.sum(), dtype=np.int32)
    chosen = sparse.csr_array((ones, (rows[accepted], columns[accepted])), shape=overlap.shape)
    return sparse.csr_array(reciprocal + chosen @ half)


def encode(members: sparse.csr_array, features: Tensor, largest: Tensor) -> sparse.csr_array:
    """V (N, N), float32: exp(−distance) on the members of each row, scaled to rows of sum 1: eq. 7."""
    members = members.sorted_indices()
    rows = torch.from_numpy(np.repeat(np.arange(len(features)), np.diff(members.indptr)))
    columns = torch.from_numpy(members.indices)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta|Sparse invariant checks are")
        pattern = torch.sparse_csr_tensor(
            torch.from_numpy(members.indptr),
            columns,
            torch.zeros(members.nnz, dtype=features.dtype),
            members.shape,
            check_invariants=True,
        ).to(features.device)
        # Products of the pairs that are asked for, and of no others.
        products = torch.sparse.sampled_addmm(pattern, features, features.T, beta=0.0).values()
    rows, columns = rows.to(features.device), columns.to(features.device)
    norms = squared_norms(features)
    distance = (norms[rows] + norms[columns] - 2 * products).clamp_min_(0)
    values = torch.exp(-distance / largest[rows]).cpu().numpy()
    weights = sparse.csr_array((values, members.indices, members.indptr), shape=members.shape)
    return sparse.csr_array(sparse.diags_array(1 / weights.sum(axis=1)) @ weights, dtype=np.float32)


def _mixed(
    query: Tensor,
    gallery: Tensor,
    weights: sparse.csr_array,
    largest: Tensor,
    lam: float,
    dtype: type[np.floating],
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of final distances from V (N, N) and the queries' largest distances (Q,): eq. 10 and eq. 12."""
    by_image = weights[len(query) :].tocsc()  # column j: which gallery images have image j in their set
    by_image.data, queries = by_image.data.astype(dtype), weights[: len(query)]
    queries.data = queries.data.astype(dtype)
    del weights
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for rows, distance in euclidean_blocks(query, gallery):
            distance *= lam / largest[rows, None]
            overlap = torch.zeros(distance.shape, dtype=torch.from_numpy(by_image.data).dtype)
            list(pool.map(add_overlaps, overlap, itertools.repeat(by_image), rows_of(queries, rows)))
            # Rows of V sum to 1, so Σmax = 2 − Σmin. One number after the other is rounded, as published.
            jaccard = (1 - overlap / (2 - overlap)) * torch.tensor(1 - lam, dtype=overlap.dtype)
            yield rows, distance.cpu().float().add_(jaccard)


def rows_of(matrix: sparse.csr_array, rows: slice) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Columns and values of each row in turn."""
    for start, stop in itertools.pairwise(matrix.indptr[rows.start : rows.stop + 1]):
        yield matrix.indices[start:stop], matrix.data[start:stop]


def add_overlaps(
    overlap: Tensor,
    by_image: sparse.csc_array,
    row: tuple[NDArray[np.integer], NDArray[np.floating]],
) -> None:
    """Add Σ_j min(V_ij, V_gj) for all gallery images g to overlap (G,), for a row i of V.

    Added up image by image in the precision of V, as published: in float16 the order counts.
    """
    images, weights = row
    starts = by_image.indptr[images]
    lengths = by_image.indptr[images + 1] - starts
    ends = lengths.cumsum()
    entries = np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1])
    # Floats that are not negative are ordered as their bits are, and NumPy is slow at comparing float16.
    bits = f"u{weights.itemsize}"
    smaller = np.minimum(by_image.data.view(bits)[entries], np.repeat(weights.view(bits), lengths))
    overlap.index_add_(
        0, torch.from_numpy(by_image.indices[entries]), torch.from_numpy(smaller.view(weights.dtype))
    )
