"""The bootstrap: intervals of a value from drawing what it was computed from again, with replacement.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, percentile intervals (section 13.3). NumPy's
draws are used and not scipy.stats.bootstrap, whose argument for a generator depends on its version.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from retrieval.metrics import QueryScores

RANKS = (1, 5, 10)
_CONFIDENCE = 0.95
_MOST_ROUNDS = 1_000_000  # more would not fit into memory
_ROUNDS_AT_ONCE = 500
_COUNTS_AT_ONCE = 2**22  # 32 MiB in each of two forms


class Interval(NamedTuple):
    """The range of a value in 95 % of the bootstrap's rounds."""

    low: float
    high: float


class Difference(NamedTuple):
    """How much one value is above another, and the range of that in 95 % of the bootstrap's rounds."""

    value: float
    interval: Interval


def check_rounds(rounds: int, seed: int) -> None:
    """Raise ValueError for a number of rounds outside 0..1,000,000, or a negative seed."""
    if not 0 <= rounds <= _MOST_ROUNDS:
        raise ValueError(f"bootstrap rounds must be 0 to {_MOST_ROUNDS:,}, got {rounds}")
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, got {seed}")


def metric_intervals(
    trials: Sequence[QueryScores], *, rounds: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """95 % intervals of the metrics of some trials, by name as in `metrics_record`.

    A round draws queries with a match, in each trial as many as there are, and takes the mean over the
    trials; galleries stay as they are. Queries count as independent, which those of one identity are not
    quite. Raises ValueError for no rounds, a negative seed, no trial, and a trial in which no query has a
    match.
    """
    values = [_values(scores) for scores in trials]
    return {name: interval(means) for name, means in _round_means(values, rounds, seed).items()}


def paired_differences(
    first: Sequence[QueryScores], second: Sequence[QueryScores], *, rounds: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """What the metrics of `second` are above those of `first`, by name, with 95 % intervals.

    Both are scores of the same queries in the same order. A round draws queries, as `metric_intervals` does,
    and takes both scores of each: what makes a query hard for both cancels out, so that the interval is
    narrower than those of the two values suggest. Raises ValueError as `metric_intervals` does, and where
    trials, their queries or the queries with a match differ in number or place.
    """
    if [len(each.first_rank) for each in first] != [len(each.first_rank) for each in second]:
        raise ValueError(
            f"trials have {[len(each.first_rank) for each in first]} and "
            f"{[len(each.first_rank) for each in second]} queries; allowed: the same queries in both"
        )
    for one, other in zip(first, second, strict=True):
        unlike = int((one.first_rank.isnan() != other.first_rank.isnan()).sum())
        if unlike:
            raise ValueError(f"{unlike} queries have a match in one gallery only; allowed: in both or none")
    values = [_values(other) - _values(one) for one, other in zip(first, second, strict=True)]
    found = _round_means(values, rounds, seed)
    mean = np.mean([each.mean(axis=0) for each in values], axis=0)
    return {
        name: Difference(float(value), interval(means))
        for (name, means), value in zip(found.items(), mean, strict=True)
    }


def _round_means(values: Sequence[np.ndarray], rounds: int, seed: int) -> dict[str, np.ndarray]:
    """Means of each round (R,) by name, of the scores (V, 5) of the queries of each trial."""
    check_rounds(rounds, seed)
    if not rounds or not values or not all(map(len, values)):
        counts = [len(each) for each in values]
        raise ValueError(
            f"the bootstrap has {rounds} rounds over {counts} queries of trials; allowed: 1 or more of each"
        )
    generator = np.random.default_rng(seed)
    means = np.zeros((rounds, values[0].shape[1]))
    for each in values:
        drawn = [counts @ each for counts in drawn_counts(len(each), rounds, generator)]
        means += np.concatenate(drawn) / len(each)
    means /= len(values)
    names = ("mAP", "mINP", *(f"rank{k}" for k in RANKS))
    return dict(zip(names, means.T, strict=True))


def _values(scores: QueryScores) -> np.ndarray:
    """(V, 5): scores of the V queries with a match, whose means are the metrics."""
    precision, penalty, first = (part.cpu().numpy() for part in scores)
    hits = [first <= k for k in RANKS]  # False where there is no match
    return np.stack([precision, penalty, *hits], axis=1)[~np.isnan(first)]


def drawn_counts(count: int, rounds: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each round draws each of `count` things, (rounds, count), some rounds at a time."""
    shares = np.full(count, 1 / count)
    step = max(1, min(_ROUNDS_AT_ONCE, _COUNTS_AT_ONCE // count))
    for start in range(0, rounds, step):
        size = min(step, rounds - start)
        yield generator.multinomial(count, shares, size=size).astype(np.float64)


def interval(values: np.ndarray) -> Interval:
    """The range of 95 % of the rounds' values (R,)."""
    tail = (1 - _CONFIDENCE) / 2
    return Interval(*(float(value) for value in np.quantile(values, [tail, 1 - tail])))
