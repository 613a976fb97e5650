"""Intervals of metrics against plain loops, known distributions and the promise of 95 %."""

import numpy as np
import pytest
import torch
from scipy.stats import binom

from retrieval import bootstrap, evaluate_task, metric_intervals, metrics_record, paired_differences
from retrieval.bootstrap import Interval, drawn_counts
from retrieval.metrics import QueryScores


def scores_of(precision, first=None):
    """Queries of these average precisions, with their first hit at these ranks, NaN for no match."""
    precision = torch.tensor(precision, dtype=torch.float64)
    first = torch.ones_like(precision) if first is None else torch.tensor(first, dtype=torch.float64)
    return QueryScores(precision, precision / 2, first)


def test_two_queries():
    """Half of the rounds draw both, a quarter each one of them twice."""
    found = metric_intervals([scores_of([0.0, 1.0], [1, 7])])
    assert found["mAP"] == (0, 1) and found["mINP"] == (0, 0.5)
    assert found["rank1"] == found["rank5"] == (0, 1) and found["rank10"] == (1, 1)


def test_a_rank_has_the_quantiles_of_a_binomial():
    found = metric_intervals([scores_of([0.5] * 100, [1] * 60 + [4] * 40)], rounds=20_000)
    assert found["rank1"] == pytest.approx(binom.ppf([0.025, 0.975], 100, 0.6) / 100, abs=0.011)
    assert found["rank5"] == (1, 1) and found["mAP"] == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("sizes", [[30], [30, 8, 12]])
def test_every_round_draws_queries_of_each_trial(sizes):
    """As a loop over rounds and queries; more rounds than are drawn at once."""
    generator = np.random.default_rng(0)
    trials = [scores_of(generator.random(size), generator.integers(1, 14, size)) for size in sizes]
    rounds, drawn = 700, np.random.default_rng(5)
    means = np.zeros((rounds, 3))
    for scores in trials:
        size = len(scores.first_rank)
        counts = [drawn.multinomial(size, np.full(size, 1 / size)) for _ in range(rounds)]
        for row, count in zip(means, counts, strict=True):
            chosen = np.repeat(np.arange(size), count)
            first = scores.first_rank.numpy()[chosen]
            row += (
                np.mean(scores.average_precision.numpy()[chosen]),
                np.mean(first <= 1),
                np.mean(first <= 10),
            )
    found = metric_intervals(trials, rounds=rounds, seed=5)
    for name, column in zip(("mAP", "rank1", "rank10"), means.T / len(sizes), strict=True):
        assert found[name] == pytest.approx(np.quantile(column, [0.025, 0.975]))


def test_many_queries_are_drawn_in_fewer_rounds_at_a_time(monkeypatch):
    """The draws are those of a few queries' way, in less memory."""
    draws = list(drawn_counts(30, 40, np.random.default_rng(2)))
    monkeypatch.setattr(bootstrap, "_COUNTS_AT_ONCE", 100)
    fewer = list(drawn_counts(30, 40, np.random.default_rng(2)))
    assert [len(counts) for counts in draws] == [40] and {len(counts) for counts in fewer} == {1, 3}
    assert np.array_equal(np.concatenate(fewer), draws[0])
    assert [len(counts) for counts in drawn_counts(200, 2, np.random.default_rng(2))] == [1, 1]


def test_queries_without_a_match_do_not_count():
    with_one = scores_of([0.2, np.nan, 0.9, 0.4], [3, np.nan, 1, 2])
    assert metric_intervals([with_one]) == metric_intervals([scores_of([0.2, 0.9, 0.4], [3, 1, 2])])


def test_a_seed_decides():
    trials = [scores_of(np.linspace(0, 1, 50))]
    assert metric_intervals(trials, seed=3) == metric_intervals(trials, seed=3)
    assert metric_intervals(trials, seed=3)["mAP"] != metric_intervals(trials, seed=4)["mAP"]


def test_nearly_95_of_100_intervals_hold_the_truth():
    """Average precisions drawn from a distribution of mean 2/3."""
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(400):
        low, high = metric_intervals([scores_of(generator.beta(2, 1, 80))], rounds=400, seed=seed)["mAP"]
        held += low <= 2 / 3 <= high
    assert 0.91 <= held / 400 <= 0.98


@pytest.mark.parametrize("trials", [1, 3])
def test_metrics_are_means_of_the_scores_that_they_keep(whole_number_task, trials):
    metrics = evaluate_task(whole_number_task(trials=trials))
    assert len(metrics.scores) == trials
    assert sum(int((~scores.first_rank.isnan()).sum()) for scores in metrics.scores) == metrics.num_valid
    means = [scores.average_precision.nanmean().item() for scores in metrics.scores]
    assert metrics.mAP == pytest.approx(np.mean(means))
    values = metrics_record(metrics)
    for name, found in metric_intervals(metrics.scores).items():
        assert isinstance(found, Interval) and found.low <= values[name] <= found.high


@pytest.mark.parametrize(
    ("trials", "options", "told"),
    [
        ([scores_of([0.5])], {"rounds": 0}, "0 rounds"),
        ([scores_of([0.5])], {"rounds": -1}, "got -1"),
        ([scores_of([0.5])], {"seed": -1}, "got -1"),
        ([], {}, r"\[\]"),
        ([scores_of([0.5]), scores_of([np.nan], [np.nan])], {}, r"\[1, 0\]"),
    ],
)
def test_what_cannot_be_drawn(trials, options, told):
    with pytest.raises(ValueError, match=told):
        metric_intervals(trials, **options)


def test_a_difference_is_of_the_same_queries_in_every_round():
    """As a loop: each round takes both scores of the queries that it draws."""
    generator = np.random.default_rng(0)
    first, second = (
        [scores_of(generator.random(size), generator.integers(1, 14, size)) for size in (30, 12)]
        for _ in range(2)
    )
    found = paired_differences(first, second, rounds=600, seed=5)
    drawn, means = np.random.default_rng(5), np.zeros((600, 2))
    for one, other in zip(first, second, strict=True):
        size = len(one.first_rank)
        precision = (other.average_precision - one.average_precision).numpy()
        hit = np.float64(other.first_rank <= 5) - np.float64(one.first_rank <= 5)
        for start, count in ((0, 500), (500, 100)):
            counts = drawn.multinomial(size, np.full(size, 1 / size), size=count)
            means[start : start + count] += np.stack([counts @ precision, counts @ hit], axis=1) / size / 2
    for name, column in zip(("mAP", "rank5"), means.T, strict=True):
        assert found[name].interval == pytest.approx(np.quantile(column, [0.025, 0.975]))
    values = [np.mean([each.average_precision.mean() for each in trials]) for trials in (first, second)]
    assert found["mAP"].value == pytest.approx(values[1] - values[0])


def test_what_is_hard_for_both_does_not_widen_a_difference():
    hard = np.linspace(0, 0.9, 50)
    found = paired_differences([scores_of(hard)], [scores_of(hard + 0.01)])["mAP"]
    assert found.value == pytest.approx(0.01) and found.interval == pytest.approx((0.01, 0.01))
    own = metric_intervals([scores_of(hard)])["mAP"]
    assert own.high - own.low > 0.1


def test_nearly_95_of_100_differences_hold_the_truth():
    generator = np.random.default_rng(1)
    held = 0
    for seed in range(400):
        first = generator.random(80) / 2
        second = first + generator.beta(2, 4, 80) / 2  # 1/6 higher in the mean
        found = paired_differences([scores_of(first)], [scores_of(second)], rounds=400, seed=seed)["mAP"]
        held += found.interval.low <= 1 / 6 <= found.interval.high
    assert 0.91 <= held / 400 <= 0.98


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ([scores_of([0.5] * 3)], r"trials have \[2\] and \[3\] queries; allowed: the same"),
        ([scores_of([0.5] * 2)] * 2, r"\[2\] and \[2, 2\] queries"),
        ([scores_of([np.nan, 0.5], [np.nan, 1])], "1 queries have a match in one gallery only"),
    ],
)
def test_other_queries_have_no_difference(second, told):
    with pytest.raises(ValueError, match=told):
        paired_differences([scores_of([0.5] * 2)], second)
