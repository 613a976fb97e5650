"""How well queries find their identity in a gallery: CMC, mAP and mINP under the cross-camera protocol.

The protocol is Market-1501's (Zheng et al., ICCV 2015): images of the query's identity from the query's own
camera do not count. mINP, the inverse negative penalty, is from Ye et al. (TPAMI 2021, arXiv 2001.04193).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrieval.distance import check_finite, check_pair, row_slices, squared_euclidean
from retrieval.features import FeatureSet

logger = logging.getLogger("transreid.retrieval")

UNKNOWN_CAMERA = -1


@dataclass(frozen=True, eq=False)
class RetrievalMetrics:
    """Scores as fractions 0..1: cmc[k-1] is Rank-k (float64); num_valid counts the queries with a match."""

    cmc: np.ndarray
    mAP: float
    mINP: float
    num_valid: int

    def rank(self, k: int) -> float:
        """Rank-k; where the curve is shorter than k, its last value. Raises ValueError for k below 1."""
        if k < 1:
            raise ValueError(f"rank k must be at least 1, got {k}")
        return float(self.cmc[min(k, len(self.cmc)) - 1])

    @staticmethod
    def mean(trials: Sequence[RetrievalMetrics]) -> RetrievalMetrics:
        """The mean of several trials, each with the same weight; num_valid is their sum.

        A curve that is shorter because its gallery was smaller than max_rank has reached 1 and goes on at 1.
        Raises ValueError for no trials, and for curves of different lengths where a shorter one ends below 1.
        """
        if not trials:
            raise ValueError("the mean needs at least one trial, got none")
        length = max(len(trial.cmc) for trial in trials)
        for trial in trials:
            if len(trial.cmc) < length and trial.cmc[-1] != 1.0:
                raise ValueError(
                    f"trials have CMC curves of {len(trial.cmc)} and {length} ranks: use one max_rank for all"
                )
        curves = [np.pad(trial.cmc, (0, length - len(trial.cmc)), mode="edge") for trial in trials]
        return RetrievalMetrics(
            cmc=np.mean(curves, axis=0),
            mAP=float(np.mean([trial.mAP for trial in trials])),
            mINP=float(np.mean([trial.mINP for trial in trials])),
            num_valid=sum(trial.num_valid for trial in trials),
        )


@torch.no_grad()
def evaluate(
    query: FeatureSet,
    gallery: FeatureSet,
    max_rank: int = 50,
    rerank: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> RetrievalMetrics:
    """Score the gallery's rankings by squared Euclidean distance to each query, on the features as given.

    Gallery images with the query's pid and camid are removed. Where the query's camid is -1 (unknown), only
    the query image itself is: the gallery image with the same path and camid -1. Queries without any
    remaining match are skipped and counted in the log. Equal distances rank by gallery index. cmc has
    min(max_rank, G) entries.

    Args:
        rerank: query features (Q, D), gallery features (G, D) -> distances (Q, G) to rank by instead.

    Raises:
        ValueError: an empty query or gallery, widths or devices that differ, features or re-ranked distances
            that are not finite, max_rank below 1, or no query with a match.
    """
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, got {max_rank}")
    check_pair(query.features, gallery.features)
    length = min(max_rank, len(gallery))
    query_codes, gallery_codes = _image_codes(query, gallery)
    # Filled in place: small results kept between the large blocks of a loop would fragment the heap.
    scores = torch.empty(len(query), 3, dtype=torch.float64, device=query.features.device)
    for rows, distance in _distance_blocks(query.features, gallery.features, rerank):
        same_pid = query.pids[rows, None] == gallery.pids
        camids = query.camids[rows, None]
        removed = same_pid & (camids == gallery.camids) & (camids != UNKNOWN_CAMERA)
        removed |= query_codes[rows, None] == gallery_codes
        scores[rows] = _score_rows(distance, same_pid & ~removed, ~removed)
    precision, inverse_penalty, first = scores[~scores.isnan().any(dim=1)].unbind(dim=1)
    num_valid = len(first)
    if not num_valid:
        raise ValueError(
            f"none of the {len(query)} queries has an image of its pid from another camera "
            f"among the {len(gallery)} gallery images"
        )
    if num_valid < len(query):
        logger.info(
            "%d of %d queries have no match in the gallery and are skipped",
            len(query) - num_valid,
            len(query),
        )
    first_at = torch.bincount(first.long() - 1, minlength=length)[:length]  # queries by rank of the first hit
    return RetrievalMetrics(
        cmc=first_at.cumsum(0).cpu().double().numpy() / num_valid,
        mAP=precision.mean().item(),
        mINP=inverse_penalty.mean().item(),
        num_valid=num_valid,
    )


def _distance_blocks(
    query: Tensor, gallery: Tensor, rerank: Callable[[Tensor, Tensor], Tensor] | None
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks (rows, distances (rows, G)); without re-ranking the whole matrix never exists."""
    size = (len(query), len(gallery))
    if rerank is None:
        for rows in row_slices(*size):
            yield rows, squared_euclidean(query[rows], gallery)
        return
    distance = torch.as_tensor(rerank(query, gallery))
    if distance.shape != size:
        raise ValueError(f"re-ranking must return distances of shape {size}, got {tuple(distance.shape)}")
    check_finite("re-ranked distances", distance)
    for rows in row_slices(*size):
        yield rows, distance[rows].to(query.device)


def _image_codes(query: FeatureSet, gallery: FeatureSet) -> tuple[Tensor, Tensor]:
    """Codes (Q,) and (G,) that are equal exactly where both cameras are unknown and the path is the same."""
    numbers: dict[str, int] = {}
    codes = []
    for images, known_camera in ((query, -1), (gallery, -2)):
        code = torch.tensor([numbers.setdefault(path, len(numbers)) for path in images.paths])
        code = code.to(images.camids.device)
        codes.append(torch.where(images.camids == UNKNOWN_CAMERA, code, known_camera))
    return codes[0], codes[1]


def _score_rows(distance: Tensor, match: Tensor, kept: Tensor) -> Tensor:
    """Scores (rows, 3): average precision, hits / last hit's position, first hit's position; NaN if none.

    distance, match and kept are (rows, G); matches are kept. Positions start at 1 and count kept images.
    """
    order = distance.argsort(dim=1, stable=True)
    match = match.gather(1, order)
    position = kept.gather(1, order).cumsum(1, dtype=torch.int32)
    hits = match.cumsum(1, dtype=torch.int32)
    total = match.sum(1)
    # At images that are not hits the quotient may be 0 / 0; they are masked.
    precision = torch.where(match, hits.double() / position, 0.0).sum(1) / total
    last = torch.where(match, position, 0).amax(1)
    first = torch.where(match, position, position.shape[1] + 1).amin(1)
    return torch.stack([precision, total.double() / last, first.double()], dim=1)
