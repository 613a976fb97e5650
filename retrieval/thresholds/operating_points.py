"""Error rates of distance thresholds for "these two images show one identity", with confidence intervals.

Pairs: false and true accept rates, verification in the terms of ISO/IEC 19795-1. Intervals: the bootstrap
over identities, as pairs of one identity are not independent (Bolle, Ratha, Pankanti, CVIU 2004). Open set:
detection and identification rate against false alarms (Phillips, Grother, Micheals, 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.integrate import trapezoid

from retrieval.bootstrap import Interval, check_rounds, drawn_counts, interval
from retrieval.task import RetrievalTask
from retrieval.thresholds.pair_scores import BINS, PairScores, count_by_identity

_EDGES = 2000
# Cells (identity, edge) of the bootstrap's counts: 128 MiB of each kind.
_MAX_CELLS = 1 << 24


class EqualError(NamedTuple):
    """The rate at which false accepts equal false rejects, and its distance."""

    rate: float
    threshold: float


@dataclass(frozen=True, eq=False)
class AcceptRates:
    """Shares (K,) of the different pairs (false) and of the same pairs (true) within each threshold (K,)."""

    thresholds: np.ndarray
    false: np.ndarray
    true: np.ndarray

    def area(self) -> float:
        """The area under the ROC curve."""
        return float(trapezoid(np.append(0, self.true), np.append(0, self.false)))

    def equal_error(self) -> EqualError:
        """Where false accepts and false rejects cross, on the straight line between two thresholds."""
        accepts, rejects = np.append(0, self.false), 1 - np.append(0, self.true)
        after = int(np.argmax(accepts >= rejects))  # never 0: nothing is accepted there, all is rejected
        gap = rejects - accepts
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        rate = accepts[after - 1] + share * (accepts[after] - accepts[after - 1])
        return EqualError(float(rate), float(self.thresholds[after - 1]))


@dataclass(frozen=True)
class OperatingPoint:
    """The largest distance within which at most the share `far` of different pairs lies.

    `true_accept` is the share of same pairs within it. Both are None where `reason` gives the cause;
    intervals are None without a bootstrap.
    """

    far: float
    threshold: float | None
    true_accept: float | None
    threshold_interval: Interval | None
    true_accept_interval: Interval | None
    reason: str | None


class OpenSetRates(NamedTuple):
    """Effects of a threshold on queries: one share of the queries as strangers, three of those with a match.

    false_alarm (FPIR): an image lies within although the query's identity is removed from the gallery.
    found (TPIR): the nearest image shows the query's identity and lies within. wrong: the nearest shows
    another identity and lies within. missed: nothing lies within. At equal distance the other identity is
    the nearer.
    """

    false_alarm: float
    found: float
    wrong: float
    missed: float


@dataclass(frozen=True)
class OpenSetPoint:
    """Open-set rates at the threshold that keeps `measure`, 'FAR' or 'FPIR', at `rate`.

    Threshold and rates are None where `reason` gives the cause.
    """

    measure: str
    rate: float
    threshold: float | None
    rates: OpenSetRates | None
    reason: str | None


def accept_rates(scores: PairScores) -> AcceptRates:
    """The ROC curve of all pairs, at every bin of the scores (K = BINS + 1)."""
    return AcceptRates(
        np.arange(BINS + 1) * scores.bin_width,
        np.cumsum(scores.different) / scores.different.sum(),
        np.cumsum(scores.same) / scores.same.sum(),
    )


def operating_points(
    task: RetrievalTask,
    scores: PairScores,
    fars: Sequence[float],
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> list[OperatingPoint]:
    """Thresholds at false accept rates `fars`, for the scores of this task, with bootstrap intervals.

    A round draws as many query identities as there are, with replacement; its thresholds are the largest of
    about 2000 edges. Without rounds, and for a single identity, intervals are None. Raises ValueError for a
    rate outside 0..1, a negative number of rounds, or a negative seed.
    """
    _check_rates("false accept rate", fars)
    check_rounds(rounds, seed)
    curve = accept_rates(scores)
    total = int(scores.different.sum())
    reached = [_reach(curve.false, far, total, "different pairs") for far in fars]
    drawn = _Bootstrap.none(len(fars))
    bins = [reach.bin for reach in reached if reach.bin is not None]
    if bins and rounds and scores.identities > 1:
        drawn = _bootstrap(task, scores, bins, fars, rounds=rounds, seed=seed)
    return [
        OperatingPoint(far, None, None, None, None, reach.reason)
        if reach.bin is None
        else OperatingPoint(
            far,
            float(curve.thresholds[reach.bin]),
            float(curve.true[reach.bin]),
            _interval(drawn.thresholds[:, i]),
            _interval(drawn.true[:, i]),
            None,
        )
        for i, (far, reach) in enumerate(zip(fars, reached, strict=True))
    ]


def open_set_rates(scores: PairScores, threshold: float) -> OpenSetRates:
    """The effects of this threshold on queries, both known ones and strangers."""
    known = np.isfinite(scores.own)
    own, other = scores.own[known], scores.other[known]
    right = own < other
    within = np.minimum(own, other) <= threshold
    return OpenSetRates(
        float(np.mean(scores.other <= threshold)),
        float(np.mean(within & right)),
        float(np.mean(within & ~right)),
        float(np.mean(~within)),
    )


def open_set_points(
    scores: PairScores, points: Sequence[OperatingPoint], fpirs: Sequence[float] = (0.01, 0.05, 0.1)
) -> list[OpenSetPoint]:
    """Open-set rates at the thresholds of `points`, then at those of the false alarm rates `fpirs`.

    Raises ValueError for a rate outside 0..1.
    """
    _check_rates("false alarm rate", fpirs)
    found = [OpenSetPoint("FAR", point.far, *_at(scores, point.threshold), point.reason) for point in points]
    nearest = scores.other[np.isfinite(scores.other)] / scores.bin_width
    bins = np.minimum(np.ceil(nearest), BINS).astype(np.int64)
    alarms = np.cumsum(np.bincount(bins, minlength=BINS + 1)) / len(scores.other)
    for fpir in fpirs:
        reach = _reach(alarms, fpir, len(scores.other), "queries")
        threshold = None if reach.bin is None else reach.bin * scores.bin_width
        found.append(OpenSetPoint("FPIR", fpir, *_at(scores, threshold), reach.reason))
    return found


def _at(scores: PairScores, threshold: float | None) -> tuple[float | None, OpenSetRates | None]:
    return threshold, None if threshold is None else open_set_rates(scores, threshold)


def _check_rates(name: str, rates: Sequence[float]) -> None:
    for rate in rates:
        if not 0 < rate < 1:
            raise ValueError(f"a {name} must be above 0 and below 1, got {rate}")


class _Reach(NamedTuple):
    """The last bin at which a rate is kept, or the reason why no bin keeps it."""

    bin: int | None
    reason: str | None


def _reach(shares: np.ndarray, rate: float, count: int, what: str) -> _Reach:
    """Reach of `rate` on the ascending shares (BINS + 1,) of `count` things."""
    if 1 / count > rate:
        return _Reach(None, f"not measurable with {count:,} {what}")
    last = int(np.searchsorted(shares, rate, side="right")) - 1
    if last < 0:
        return _Reach(None, f"no distance keeps it: {shares[0]:.2%} of {count:,} {what} have distance 0")
    return _Reach(last, None)


class _Bootstrap(NamedTuple):
    """Thresholds and true accept rates (R, F) of R rounds at F false accept rates."""

    thresholds: np.ndarray
    true: np.ndarray

    @staticmethod
    def none(rates: int) -> _Bootstrap:
        return _Bootstrap(np.empty((0, rates)), np.empty((0, rates)))


def _bootstrap(
    task: RetrievalTask,
    scores: PairScores,
    bins: Sequence[int],
    fars: Sequence[float],
    *,
    rounds: int,
    seed: int,
) -> _Bootstrap:
    edges = _edges(scores, bins)
    counts = count_by_identity(task, scores, edges)
    same, different = (part.astype(np.float64) for part in counts)  # (P, E); products of floats are fast
    thresholds = np.maximum(edges, 0) * scores.bin_width
    drawn = [_Bootstrap.none(len(fars))]
    for weights in drawn_counts(scores.identities, rounds, np.random.default_rng(seed)):
        accepted_same, accepted = (np.cumsum(weights @ part, axis=1) for part in (same, different))
        # A round may draw only identities that lack one kind of pair.
        usable = (accepted_same[:, -1] > 0) & (accepted[:, -1] > 0)
        accepted_same, accepted = accepted_same[usable], accepted[usable]
        shares = accepted / accepted[:, -1:]
        last = np.stack([(shares <= far).sum(axis=1) - 1 for far in fars], axis=1)  # (rounds, F)
        true = np.take_along_axis(accepted_same, last, axis=1) / accepted_same[:, -1:]
        drawn.append(_Bootstrap(thresholds[last], true))
    return _Bootstrap(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)))


def _edges(scores: PairScores, bins: Sequence[int]) -> np.ndarray:
    """Ascending bins (E,): `bins`, and those up to which the number of different pairs grows by one factor.

    Within the first, -1, nothing lies.
    """
    cumulative = np.cumsum(scores.different)
    size = max(2, min(_EDGES, _MAX_CELLS // scores.identities))
    numbers = np.append(0, np.geomspace(1, cumulative[-1], size))
    last = np.searchsorted(cumulative, numbers, side="right") - 1
    return np.unique(np.concatenate([[-1], last, bins]))


def _interval(values: np.ndarray) -> Interval | None:
    return interval(values) if len(values) else None
