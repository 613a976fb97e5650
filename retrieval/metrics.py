"""Metrics of rankings: CMC, mAP and mINP of queries in a gallery, under a rule of `RULES`.

CMC and mAP as in Zheng et al., ICCV 2015 (Market-1501); mINP, the mean inverse negative penalty, is from Ye
et al., TPAMI 2021, arXiv 2001.04193.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from retrieval.distance import Rerank, check_pair, distance_blocks
from retrieval.features import FeatureSet
from retrieval.ranks import ranks_in_rows
from retrieval.rules import Rule, find_rule, why_no_match
from retrieval.task import RetrievalTask
from utils.labels import NO_CAMERA

_logger = logging.getLogger("transreid.retrieval")


@dataclass(frozen=True, eq=False)
class RetrievalMetrics:
    """Scores as fractions 0..1: cmc[k-1] is Rank-k (float64); num_valid counts the queries with a match.

    `scores` are those of the queries of each trial on the CPU, where they are known. `named` are the metrics
    of the single trials that have a name.
    """

    cmc: np.ndarray
    mAP: float
    mINP: float
    num_valid: int
    scores: tuple[QueryScores, ...] = ()
    named: Mapping[str, RetrievalMetrics] = field(default_factory=dict)

    def rank(self, k: int) -> float:
        """Rank-k; where the curve is shorter than k, its last value. Raises ValueError for k below 1."""
        if k < 1:
            raise ValueError(f"rank k must be at least 1, got {k}")
        return float(self.cmc[min(k, len(self.cmc)) - 1])

    @staticmethod
    def mean(trials: Sequence[RetrievalMetrics]) -> RetrievalMetrics:
        """The mean of several trials, each with the same weight; num_valid is their sum.

        A curve that is shorter because its gallery was smaller than max_rank has reached 1, and is extended.
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
            scores=tuple(chain.from_iterable(trial.scores for trial in trials)),
        )


class QueryScores(NamedTuple):
    """Scores of single queries, each (Q,) float64; NaN where a query has no match.

    `inverse_penalty` is matches / rank of the last match; ranks start at 1 and count images not removed.
    """

    average_precision: Tensor
    inverse_penalty: Tensor
    first_rank: Tensor


def evaluate(
    query: FeatureSet,
    gallery: FeatureSet,
    max_rank: int = 50,
    rerank: Rerank | None = None,
    rule: str = "cross_camera",
) -> RetrievalMetrics:
    """Score the gallery's rankings by squared Euclidean distance to each query, on the features as given.

    Queries without a match are skipped and counted in the log, as are queries that lose their own picture.
    Equal distances rank by gallery index. cmc has min(max_rank, G) entries. No matrix (Q, G) is held.

    Args:
        rerank: query features (Q, D), gallery features (G, D) -> distances (Q, G) to rank by instead, whole
            or in blocks (see `distance_blocks`).
        rule: the name in `RULES` of the rule that decides which gallery images match and which are removed.

    Raises:
        ValueError: an empty query or gallery, widths or devices that differ, features or re-ranked distances
            that are not finite, max_rank below 1, an unknown rule, or no query with a match.
    """
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, got {max_rank}")
    applied = apply_rule(query, gallery, rule)
    if applied.own_pictures:
        _logger.info(
            "%d of %d queries are in the gallery themselves (same file or same bytes); those pictures are "
            "left out",
            applied.own_pictures,
            len(query),
        )
    scores = score_by_rule(query, gallery, applied, rerank)
    valid = ~scores.first_rank.isnan()
    num_valid = int(valid.sum())
    if not num_valid:
        raise ValueError(why_no_match(query, gallery, rule))
    if num_valid < len(query):
        _logger.info(
            "%d of %d queries have no match in the gallery and are skipped",
            len(query) - num_valid,
            len(query),
        )
    length = min(max_rank, len(gallery))
    first_at = torch.bincount(scores.first_rank[valid].long() - 1, minlength=length)[:length]
    return RetrievalMetrics(
        cmc=first_at.cumsum(0).cpu().double().numpy() / num_valid,
        mAP=scores.average_precision[valid].mean().item(),
        mINP=scores.inverse_penalty[valid].mean().item(),
        num_valid=num_valid,
        scores=(QueryScores(*(part.cpu() for part in scores)),),
    )


def evaluate_task(task: RetrievalTask, max_rank: int = 50, rerank: Rerank | None = None) -> RetrievalMetrics:
    """The mean of `evaluate` over the trials of a task, on its features as they are, and the named trials."""
    found = [evaluate(query, gallery, max_rank, rerank, rule) for query, gallery, rule in task]
    named = {trial.name: metrics for trial, metrics in zip(task.trials, found, strict=True) if trial.name}
    return replace(RetrievalMetrics.mean(found), named=named)


def evaluate_text_search(
    text_features: Tensor, image_features: Tensor, text_pids: Tensor, image_pids: Tensor
) -> RetrievalMetrics:
    """Rank images (G, D) for texts (Q, D) by cosine, with pids (Q,), (G,); any two modalities will do.

    Raises as `evaluate` does, and ValueError for a feature without a norm.
    """
    query, gallery = (
        FeatureSet(
            features, pids, torch.full_like(pids, NO_CAMERA), [f"{name} {n}" for n in range(len(pids))]
        )
        for name, features, pids in (
            ("text", text_features, text_pids),
            ("image", image_features, image_pids),
        )
    )
    return evaluate(query.normalized(), gallery.normalized(), rule="all")


def score_queries(
    query: FeatureSet, gallery: FeatureSet, rerank: Rerank | None = None, rule: str = "cross_camera"
) -> QueryScores:
    """Average precision, inverse penalty and first hit's rank of each query; otherwise as `evaluate`."""
    return score_by_rule(query, gallery, apply_rule(query, gallery, rule), rerank)


def apply_rule(query: FeatureSet, gallery: FeatureSet, rule: str) -> Rule:
    """The named rule for features that can be compared. Raises ValueError for others, as `evaluate` does."""
    check_pair(query.features, gallery.features)
    return find_rule(rule)(query, gallery)


@torch.no_grad()
def score_by_rule(query: FeatureSet, gallery: FeatureSet, rule: Rule, rerank: Rerank | None) -> QueryScores:
    """As `score_queries`, under a rule for this query and gallery."""
    # Filled in place: small results kept between the large blocks of a loop would fragment the heap.
    scores = torch.empty(3, len(query), dtype=torch.float64, device=query.features.device)
    for rows, distance in distance_blocks(query.features, gallery.features, rerank):
        matches, removed = rule.pairs(rows)
        distance[removed.query, removed.gallery] = torch.inf
        ranks = ranks_in_rows(distance, matches.query, matches.gallery)
        scores[:, rows] = _score_rows(matches.query, ranks, len(distance))
    return QueryScores(*scores)


def _score_rows(rows: Tensor, ranks: Tensor, count: int) -> Tensor:
    """Scores (3, count) in the order of QueryScores, of `count` rows whose matches (P,) have these ranks."""
    hits = torch.bincount(rows, minlength=count)
    # Row after row, each in the order of its ranking.
    by_rank = (rows * (ranks.max() + 1) + ranks).argsort() if len(ranks) else ranks
    ranks = ranks[by_rank].double()
    number = torch.arange(1, len(ranks) + 1, device=ranks.device) - (hits.cumsum(0) - hits)[rows]
    precision = torch.zeros(count, dtype=torch.float64, device=ranks.device)
    precision.index_add_(0, rows, number / ranks)
    first = torch.full_like(precision, torch.nan).scatter_reduce_(0, rows, ranks, "amin", include_self=False)
    last = torch.full_like(precision, torch.nan).scatter_reduce_(0, rows, ranks, "amax", include_self=False)
    return torch.stack([precision / hits, hits / last, first])
