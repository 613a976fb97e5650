"""Distances of all query–gallery pairs of a task, split by whether the two show one identity.

A large task has a billion pairs: distances are computed in blocks and counted in bins, never held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from retrieval.distance import check_pair, distance_blocks
from retrieval.rules import Pairs, find_rule
from retrieval.task import RetrievalTask, TrialFeatures
from utils.labels import NO_PID

BINS = 1 << 20
# Norms of rows that were normalised in float16 are this far from 1 at most.
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class PairScores:
    """How often each squared Euclidean distance occurs between images of one and of different identities.

    `same` and `different` (BINS + 1,) int64 count pairs: entry k those in ((k − 1)·bin_width, k·bin_width],
    so that sums up to k count the pairs within k·bin_width exactly; the width is a power of two. `own` and
    `other` (Q,) are each query's distance to its nearest match and to the nearest image of any other
    identity, inf without one. `identities` counts those of the queries, `absent` the queries whose identity
    the gallery lacks. `unit_norm`: the features have norm 1, a distance d is a cosine of 1 − d / 2.
    """

    same: np.ndarray
    different: np.ndarray
    bin_width: float
    own: np.ndarray
    other: np.ndarray
    identities: int
    absent: int
    unit_norm: bool


class IdentityCounts(NamedTuple):
    """Pairs (P, E) int64 of the queries of identity p with a distance in (edge e − 1, edge e]."""

    same: np.ndarray
    different: np.ndarray


@torch.no_grad()
def score_pairs(task: RetrievalTask) -> PairScores:
    """Count the pairs of all trials of a task by distance, each trial under its rule.

    Matches are `same`, all pairs of unequal pid `different`. Pairs that the rule removes and pairs with an
    unknown identity (pid -1) are neither. Raises ValueError when there is no pair of either kind, or when
    features are not finite.
    """
    width, unit_norm = _bin_width(task.images.features)
    same, different = np.zeros((2, BINS + 1), dtype=np.int64)
    own, other, absent = [], [], 0
    for trial in _identified(task):
        absent += int((~torch.isin(trial.query.pids, trial.gallery.pids)).sum())
        for block in _blocks(trial, width):
            counts = _tally(block.bins, block, BINS + 1)
            same += counts.same
            different += counts.different
            nearest = _nearest(block)
            own.append(nearest[0])
            other.append(nearest[1])
    if not same.sum() or not different.sum():
        raise ValueError(_missing_pairs(task, int(same.sum()), int(different.sum())))
    return PairScores(
        same,
        different,
        width,
        torch.cat(own).double().cpu().numpy(),
        torch.cat(other).double().cpu().numpy(),
        len(_query_identities(task)),
        absent,
        unit_norm,
    )


@torch.no_grad()
def count_by_identity(task: RetrievalTask, scores: PairScores, edges: np.ndarray) -> IdentityCounts:
    """Count the pairs of a task for each identity of its queries, in ascending order of pid.

    `edges` (E,) are ascending bins of `scores`; the last must be BINS. All distances are computed again.
    """
    pids = _query_identities(task)
    size = len(edges)
    table = torch.as_tensor(np.searchsorted(edges, np.arange(BINS + 1)), device=pids.device)
    same, different = np.zeros((2, len(pids), size), dtype=np.int64)
    for trial in _identified(task):
        identity = torch.searchsorted(pids, trial.query.pids)
        for block in _blocks(trial, scores.bin_width):
            present, local = identity[block.rows].unique(return_inverse=True)
            cells = table[block.bins].add_(local[:, None] * size)
            counts = _tally(cells, block, len(present) * size)
            rows = present.cpu().numpy()
            same[rows] += counts.same.reshape(-1, size)
            different[rows] += counts.different.reshape(-1, size)
    return IdentityCounts(same, different)


class _Block(NamedTuple):
    """Queries `rows` against the gallery: distances and their bins (rows, G), matches and removed pairs."""

    rows: slice
    distance: Tensor
    bins: Tensor
    matches: Pairs
    removed: Pairs


def _blocks(trial: TrialFeatures, width: float) -> Iterator[_Block]:
    rule = find_rule(trial.rule)(trial.query, trial.gallery)
    for rows, distance in distance_blocks(trial.query.features, trial.gallery.features):
        # Exact, because the width is a power of two.
        bins = (distance * (1 / width)).ceil_().clamp_max_(BINS).long()
        yield _Block(rows, distance, bins, *rule.pairs(rows))


def _tally(cells: Tensor, block: _Block, size: int) -> IdentityCounts:
    """Counts (size,) of the block's pairs by cell (rows, G): all counted, then the few others taken off."""
    same, removed = (
        torch.bincount(cells[pairs.query, pairs.gallery], minlength=size)
        for pairs in (block.matches, block.removed)
    )
    different = torch.bincount(cells.flatten(), minlength=size) - same - removed
    return IdentityCounts(same.cpu().numpy(), different.cpu().numpy())


def _nearest(block: _Block) -> tuple[Tensor, Tensor]:
    """Distances (rows,) to the nearest match and the nearest other identity; overwrites the block's own."""
    distance, matches = block.distance, block.matches
    own = distance.new_full((len(distance),), torch.inf)
    own.scatter_reduce_(0, matches.query, distance[matches.query, matches.gallery], "amin")
    for pairs in (matches, block.removed):
        distance[pairs.query, pairs.gallery] = torch.inf
    return own, distance.amin(dim=1)


def _identified(task: RetrievalTask) -> Iterator[TrialFeatures]:
    """Each trial without images of unknown identity; trials left empty are skipped."""
    for trial in task:
        query, gallery = (part.select(part.pids != NO_PID) for part in (trial.query, trial.gallery))
        if len(query) and len(gallery):
            check_pair(query.features, gallery.features)
            yield TrialFeatures(query, gallery, trial.rule)


def _query_identities(task: RetrievalTask) -> Tensor:
    return torch.cat([trial.query.pids for trial in _identified(task)]).unique()


def _bin_width(features: Tensor) -> tuple[float, bool]:
    """The width of BINS bins up to the largest distance that these norms allow, and whether all are 1."""
    norms = torch.linalg.vector_norm(features, dim=1, dtype=torch.float64)
    largest = float(norms.max()) if len(norms) else 0.0
    unit_norm = bool(((norms - 1).abs() < _UNIT_TOLERANCE).all())
    limit = 4.0 if unit_norm else 2.0 ** math.frexp(4 * largest**2)[1]
    return limit / BINS, unit_norm


def _missing_pairs(task: RetrievalTask, same: int, different: int) -> str:
    roles = zip(*((query.pids, gallery.pids) for query, gallery, _ in task), strict=True)
    known = [int(sum((pids != NO_PID).sum() for pids in role)) for role in roles]
    if 0 in known:
        return (
            f"a threshold needs queries and gallery images of known identity, "
            f"got {known[0]} such queries and {known[1]} such gallery images; the others have pid -1"
        )
    return (
        f"a threshold needs pairs of one identity (from different cameras) and of different identities, "
        f"got {same} and {different} among {known[0]} queries and {known[1]} gallery images"
    )
