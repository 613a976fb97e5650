"""Rankings of single queries for inspection: the nearest gallery images, and which of them match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from retrieval.distance import Rerank, check_pair, distance_blocks
from retrieval.features import FeatureSet
from retrieval.metrics import apply_rule, score_by_rule, score_queries
from utils.labels import NO_PID


class RankedImage(NamedTuple):
    """A gallery row, its distance to the query, and whether it is a match: None where that is unknown."""

    row: int
    distance: float
    match: bool | None


@dataclass(frozen=True)
class Ranking:
    """The nearest images of one query, nearest first, without those that the rule removes.

    `num_matches` counts the matches in the whole gallery. `average_precision` (0..1) and `first_rank` (from
    1) are None without a match.
    """

    query: int
    images: tuple[RankedImage, ...]
    num_matches: int
    average_precision: float | None
    first_rank: int | None


@torch.no_grad()
def rank_gallery(
    query: FeatureSet,
    gallery: FeatureSet,
    queries: Sequence[int],
    top: int,
    rerank: Rerank | None = None,
    rule: str = "cross_camera",
) -> list[Ranking]:
    """The `top` nearest gallery images of each query row in `queries`, in that order.

    Equal distances rank by gallery index, as in `evaluate`. Holds the distances of the chosen queries to the
    whole gallery.

    Args:
        rerank: as for `evaluate`; it gets all queries, because their neighbours count.
        rule: as for `evaluate`.

    Raises:
        ValueError: top below 1, a row outside the queries, features, distances or a rule that `evaluate`
            refuses.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    check_pair(query.features, gallery.features)
    chosen = query.select(queries)
    applied = apply_rule(chosen, gallery, rule)
    distance = _distance_rows(query, gallery, queries, rerank)
    scores = score_by_rule(chosen, gallery, applied, lambda *_: distance)
    matches, removed = applied.pairs(slice(0, len(chosen)))
    unknown = gallery.pids == NO_PID
    rankings = []
    for i, row in enumerate(queries):
        match, kept = torch.zeros_like(unknown), torch.ones_like(unknown)
        match[matches.gallery[matches.query == i]] = True
        kept[removed.gallery[removed.query == i]] = False
        order = distance[i].argsort(stable=True)
        nearest = order[kept[order]][:top]
        is_open = unknown | (chosen.pids[i] == NO_PID)
        found = zip(
            nearest.tolist(),
            distance[i, nearest].tolist(),
            match[nearest].tolist(),
            is_open[nearest].tolist(),
            strict=True,
        )
        num_matches = int(match.sum())
        rankings.append(
            Ranking(
                query=int(row),
                images=tuple(RankedImage(j, d, None if open_ else hit) for j, d, hit, open_ in found),
                num_matches=num_matches,
                average_precision=scores.average_precision[i].item() if num_matches else None,
                first_rank=int(scores.first_rank[i]) if num_matches else None,
            )
        )
    return rankings


def worst_queries(
    query: FeatureSet,
    gallery: FeatureSet,
    count: int,
    rerank: Rerank | None = None,
    rule: str = "cross_camera",
) -> list[int]:
    """Rows of the `count` queries of lowest average precision, lowest first, equal ones by row.

    Queries without a match are left out, so fewer rows may be returned. Raises ValueError for a count below
    1, and where `score_queries` does.
    """
    if count < 1:
        raise ValueError(f"the number of worst queries must be at least 1, got {count}")
    precision = score_queries(query, gallery, rerank, rule).average_precision
    scored = int((~precision.isnan()).sum())
    order = precision.round(decimals=12).argsort(stable=True)  # a GPU sums in any order; NaN sorts last
    return order[: min(count, scored)].tolist()


def _distance_rows(
    query: FeatureSet, gallery: FeatureSet, queries: Sequence[int], rerank: Rerank | None
) -> Tensor:
    """Distances (R, G) of the R chosen query rows."""
    if rerank is None:
        blocks = distance_blocks(query.select(queries).features, gallery.features)
        return torch.cat([distance for _, distance in blocks])
    wanted = torch.as_tensor(queries)
    parts: list[Tensor] = []
    places: list[Tensor] = []
    for rows, distance in distance_blocks(query.features, gallery.features, rerank):
        inside = ((wanted >= rows.start) & (wanted < rows.stop)).nonzero().flatten()
        places.append(inside)
        parts.append(distance[(wanted[inside] - rows.start).to(distance.device)])
    return torch.cat(parts)[torch.cat(places).argsort().to(query.features.device)]
