"""Evaluations next to rankings by chance."""

import math
from typing import Protocol

import torch

from retrieval import RetrievalTask, match_shares, score_queries


class Floor(Protocol):
    """Compares the last evaluation that it has seen with one that needs no training."""

    def see(self, task: RetrievalTask) -> None:
        """Take an evaluation's task, on the features of a model; called in one process."""
        ...

    def __call__(self) -> str:
        """How the last evaluation is poor, or ''."""
        ...


class ChanceFloor:
    """Compares the Rank-1 of evaluations with that of rankings by chance.

    A gallery image drawn for each query is a match as often as the share of its matches says; up to three
    standard deviations above the mean of these shares count as chance.
    """

    def __init__(self) -> None:
        self._seen: RetrievalTask | None = None

    def see(self, task: RetrievalTask) -> None:
        """See `Floor`."""
        self._seen = task

    def __call__(self) -> str:
        """See `Floor`."""
        if self._seen is None:
            return ""
        hits, shares = [], []
        for query, gallery, rule in self._seen:
            share = match_shares(query, gallery, rule)
            first_rank = score_queries(query, gallery, rule=rule).first_rank
            shares.append(share[share > 0])
            hits.append(first_rank[share > 0] == 1)
        share, hit = torch.cat(shares), torch.cat(hits)
        own, chance = hit.double().mean().item(), share.mean().item()
        if own > chance + 3 * math.sqrt((share * (1 - share)).sum().item()) / len(share):
            return ""
        return f"Rank-1 is {own:.1%} of {len(share):,} queries, no more than by chance ({chance:.1%})"
