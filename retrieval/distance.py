"""Distances between two feature matrices, the checks on them, and the blocks that keep memory bounded."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Elements of a block of distances: 16 MiB in float32; ranks and masks of a block need a few times that.
CHUNK_ELEMENTS = 1 << 22


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
    # einsum holds no squared copy of a matrix; whole numbers stay exact, as under a norm's root they do not.
    a_norms, b_norms = (torch.einsum("nd,nd->n", x, x) for x in (a, b))
    distance = a_norms[:, None] + b_norms  # (N, M)
    return distance.addmm_(a, b.T, alpha=-2).clamp_min_(0)


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


def check_finite(name: str, matrix: Tensor) -> None:
    """Raise ValueError naming the first row of matrix (N, M) that holds a NaN or an infinity."""
    bad = (~torch.isfinite(matrix).all(dim=1)).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"{name} are not finite in {len(bad)} of {len(matrix)} rows, the first is row {int(bad[0])}"
        )


def row_slices(rows: int, columns: int) -> Iterator[slice]:
    """Slices over `rows`; a block of `columns` wide rows holds at most CHUNK_ELEMENTS, or is one row."""
    step = max(1, CHUNK_ELEMENTS // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
