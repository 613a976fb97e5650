"""k-reciprocal re-ranking over all query and gallery images: Zhong, Zheng, Cao, Li, *Re-ranking Person
Re-identification with k-reciprocal Encoding*, CVPR 2017, arXiv 1701.08398.

Sets of images and their weights V are sparse (N, N) matrices, N = Q + G: intersections of sets, their
expansion and the query expansion are sparse products, and no dense (N, N) matrix is ever held.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from retrieval.distance import check_pair, row_slices, squared_euclidean


@torch.no_grad()
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

    Euclid is the squared Euclidean distance, each row divided by the largest distance of its image to any
    image. Nearest neighbours include the image itself, always first, and are searched on the features'
    device. With fewer images than k1 + 1, round(k1 / 2) + 1 or k2, that neighbourhood is all images; k2 = 1
    is no query expansion. `dtype` is that of V and of the sums over it: float16 as in the published numbers,
    float64 for exact ones, from which those are up to 4e-3 away.

    Raises ValueError for empty, non-finite or mismatched features, k1 or k2 below 1,
    or lam outside 0..1.
    """
    check_pair(query, gallery)
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 must be at least 1, got k1 = {k1} and k2 = {k2}")
    if not 0 <= lam <= 1:
        raise ValueError(f"lam must be in 0..1, got {lam}")
    features = torch.cat([query, gallery])
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    half = round(k1 / 2) + 1
    neighbours, largest = nearest_neighbours(features, max(k1 + 1, k2))

    reciprocal = reciprocal_sets(neighbours[:, : k1 + 1])
    members = expand_sets(reciprocal, reciprocal_sets(neighbours[:, :half]))
    weights = encode(members, features, largest)
    if k2 > 1:
        expansion = neighbour_matrix(neighbours[:, :k2]).astype(np.float32)
        weights.data = weights.data.astype(dtype).astype(np.float32)  # scipy multiplies in float32 or more
        weights = sparse.csr_array(expansion @ weights) / np.float32(min(k2, len(features)))
    return mix(query, gallery, weights, largest[: len(query)], lam, dtype)


def nearest_neighbours(features: Tensor, k: int) -> tuple[np.ndarray, Tensor]:
    """Indices (N, min(k, N)) of the nearest of features (N, D), nearest first; largest distances (N,)."""
    count = len(features)
    neighbours = np.empty((count, min(k, count)), dtype=np.int32)
    largest = torch.empty(count, dtype=features.dtype, device=features.device)
    for rows in row_slices(count, count):
        distance = squared_euclidean(features[rows], features)
        largest[rows] = distance.amax(1)
        # Below every distance: neither rounding nor a duplicate may push an image out of its own neighbours.
        distance[:, rows].fill_diagonal_(-1)
        neighbours[rows] = distance.topk(neighbours.shape[1], largest=False).indices.cpu().numpy()
    # Where all images are equal there is nothing to divide: the distances stay 0.
    return neighbours, torch.where(largest > 0, largest, 1.0)


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
    entries = sparse.coo_array(members)
    rows, columns = (
        torch.as_tensor(index, dtype=torch.int64, device=features.device) for index in entries.coords
    )
    distance = features.new_empty(len(rows))
    for part in row_slices(len(rows), features.shape[1]):
        distance[part] = (features[rows[part]] - features[columns[part]]).square().sum(1)
    values = torch.exp(-distance / largest[rows]).cpu().numpy()
    weights = sparse.csr_array((values, entries.coords), shape=members.shape)
    return (sparse.diags_array(1 / weights.sum(axis=1)) @ weights).astype(np.float32)


def mix(
    query: Tensor,
    gallery: Tensor,
    weights: sparse.csr_array,
    largest: Tensor,
    lam: float,
    dtype: type[np.floating],
) -> Tensor:
    """Final distances (Q, G) from V (N, N) and the queries' largest distances (Q,): eq. 10 and eq. 12.

    Overlaps are added up image by image in `dtype`, as published: in float16 the order counts.
    """
    total, count = len(query), len(gallery)
    weights.sort_indices()
    by_image = weights[total:].tocsc()  # column j: which gallery images have image j in their set
    data = by_image.data.astype(dtype)
    final = torch.empty(total, count)
    for rows in row_slices(total, count):
        euclid = squared_euclidean(query[rows], gallery) / largest[rows, None]
        final[rows] = euclid.cpu() * lam
    for i in range(total):
        overlap = np.zeros(count, dtype)
        mine = slice(weights.indptr[i], weights.indptr[i + 1])
        for j, weight in zip(weights.indices[mine], weights.data[mine].astype(dtype), strict=True):
            column = slice(by_image.indptr[j], by_image.indptr[j + 1])
            overlap[by_image.indices[column]] += np.minimum(data[column], weight)
        # Rows of V sum to 1, so Σmax = 2 − Σmin.
        jaccard = 1 - overlap / (2 - overlap)
        final[i] += torch.from_numpy((jaccard * (1 - lam)).astype(np.float32))
    return final
