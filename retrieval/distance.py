"""Distances between two feature matrices in blocks of bounded memory, and checks on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

# Elements of a block of distances, 64 MiB in float32. Each block reads the whole gallery, so smaller blocks
# are bound by memory bandwidth.
CHUNK_ELEMENTS = 1 << 24

Blocks = Iterable[tuple[slice, Tensor]]
Rerank = Callable[[Tensor, Tensor], Tensor | np.ndarray | Blocks]


def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (N, M) of the rows of a (N, D) and b (M, D), never below 0.

    Computed in float32, or in float64 when an input is float64, as |a|² + |b|² − 2ab: equal rows come out
    within rounding of 0. Raises ValueError when a and b are not matrices of one width.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"distances need matrices (N, D) and (M, D) of one width D, "
            f"got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    a, b = a.to(dtype), b.to(dtype)
    return _squared_euclidean(a, squared_norms(a), b, squared_norms(b))


def euclidean_blocks(query: Tensor, gallery: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared Euclidean distances of query (Q, D) and gallery (G, D) in blocks: (rows, (rows, G)).

    As `squared_euclidean`, in bounded memory; the gallery's norms are computed once. Raises ValueError naming
    a row whose squared norm is not finite, which large finite numbers can cause.
    """
    dtype = torch.promote_types(torch.promote_types(query.dtype, gallery.dtype), torch.float32)
    gallery = gallery.to(dtype)
    gallery_norms = squared_norms(gallery)
    check_finite("squared norms of the gallery", gallery_norms[:, None])
    for rows in row_slices(len(query), len(gallery)):
        part = query[rows].to(dtype)
        part_norms = squared_norms(part)
        check_finite("squared norms of the query", part_norms[:, None], first=rows.start)
        yield rows, _squared_euclidean(part, part_norms, gallery, gallery_norms)


def squared_norms(rows: Tensor) -> Tensor:
    """Squared L2 norms (N,) of the rows of a matrix (N, D)."""
    # einsum holds no squared copy of the matrix; whole numbers stay exact, which under a root they do not.
    return torch.einsum("nd,nd->n", rows, rows)


def _squared_euclidean(a: Tensor, a_norms: Tensor, b: Tensor, b_norms: Tensor) -> Tensor:
    distance = a_norms[:, None] + b_norms  # (N, M)
    return distance.addmm_(a, b.T, alpha=-2).clamp_min_(0)


def distance_blocks(
    query: Tensor, gallery: Tensor, rerank: Rerank | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Distances of query (Q, D) and gallery (G, D) in blocks: (rows, (rows, G)), which may be written to.

    They are squared Euclidean, in bounded memory; or those of `rerank`, which maps both matrices to distances
    (Q, G), a tensor or an array, or better to such blocks, whose slices cover the queries in order. Raises
    ValueError where re-ranked distances have another shape or are not finite.
    """
    if rerank is None:
        yield from euclidean_blocks(query, gallery)
        return
    blocks = rerank(query, gallery)
    if isinstance(blocks, Tensor | np.ndarray):
        _check_shape(blocks, (len(query), len(gallery)))
        blocks = _cut(torch.as_tensor(blocks))
    done = 0
    for rows, distance in blocks:
        _check_shape(distance, (rows.stop - done, len(gallery)))
        check_finite("re-ranked distances", distance, first=done)
        done = rows.stop
        yield rows, distance.to(query.device, torch.promote_types(distance.dtype, torch.float32))
    if done != len(query):
        raise ValueError(f"re-ranking gave distances of {done} of {len(query)} queries")


def _cut(distance: Tensor) -> Iterator[tuple[slice, Tensor]]:
    for rows in row_slices(*distance.shape):
        yield rows, distance[rows].clone()


def _check_shape(distance: Tensor | np.ndarray, size: tuple[int, int]) -> None:
    if distance.shape != size:
        raise ValueError(f"re-ranking must return distances of shape {size}, got {tuple(distance.shape)}")


def check_pair(query: Tensor, gallery: Tensor) -> None:
    """Raise ValueError unless both are finite matrices, not empty, of one width and on one device."""
    for name, features in (("query", query), ("gallery", gallery)):
        if features.ndim != 2:
            raise ValueError(f"{name} features must be a matrix (N, D), got shape {tuple(features.shape)}")
        if not len(features):
            raise ValueError(f"the {name} is empty: at least one image is needed")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query features are {query.shape[1]} wide and gallery features {gallery.shape[1]}: "
            f"the widths must be equal"
        )
    if query.device != gallery.device:
        raise ValueError(
            f"query features are on {query.device} and gallery features on {gallery.device}: "
            f"they must be on one device"
        )
    check_finite("query features", query)
    check_finite("gallery features", gallery)


def check_finite(name: str, matrix: Tensor, first: int = 0) -> None:
    """Raise ValueError naming the first row of matrix (N, M) that holds a NaN or an infinity.

    `first` is the number of the matrix's first row where it is part of a larger one.
    """
    # A value that is not finite makes the sum so; sums are several times faster than a test of every element.
    sums = matrix.sum(dim=1, dtype=torch.promote_types(matrix.dtype, torch.float32))
    bad = (~sums.isfinite()).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"{name} are not finite in {len(bad)} of {len(matrix)} rows, "
            f"the first is row {int(bad[0]) + first}"
        )


def row_slices(rows: int, columns: int) -> Iterator[slice]:
    """Slices over `rows`; a block of `columns` wide rows holds at most CHUNK_ELEMENTS, or is one row."""
    step = max(1, CHUNK_ELEMENTS // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
