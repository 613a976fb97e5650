"""Thresholds against plain loops over pairs, and the bootstrap's promises."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from retrieval import FeatureSet, RetrievalTask, evaluate
from retrieval.thresholds.operating_points import (
    accept_rates,
    open_set_points,
    open_set_rates,
    operating_points,
)
from retrieval.thresholds.pair_scores import BINS, score_pairs

TASKS = {
    "ties": lambda whole_number_task, _: whole_number_task(0, 150),
    "ties in two trials": lambda whole_number_task, _: whole_number_task(1, 150, 2),
    "people": lambda _, people_task: people_task(),
    "people hard to tell apart": lambda _, people_task: people_task(9, 1, 1.5),
}


@pytest.fixture(params=TASKS)
def task(request, whole_number_task, people_task):
    return TASKS[request.param](whole_number_task, people_task)


def test_the_curve_is_that_of_the_pairs(task, naive_pairs):
    same, different, _ = naive_pairs(task)
    scores = score_pairs(task)
    curve = accept_rates(scores)
    for threshold in (0, 100, 5000, 300_000, BINS):
        within = threshold * scores.bin_width
        assert curve.thresholds[threshold] == within
        assert curve.false[threshold] == pytest.approx(np.mean(different <= within), abs=1e-12)
        assert curve.true[threshold] == pytest.approx(np.mean(same <= within), abs=1e-12)
    labels = np.repeat([1, 0], [len(same), len(different)])
    negated = -np.concatenate([same, different])
    # Pairs of two kinds in one bin count half.
    assert curve.area() == pytest.approx(roc_auc_score(labels, negated), abs=1e-5)
    false, true, thresholds = roc_curve(labels, negated, drop_intermediate=False)
    after = np.argmax(false >= 1 - true)
    share = (1 - true - false)[after - 1] / ((1 - true - false)[after - 1] - (1 - true - false)[after])
    equal = curve.equal_error()
    assert equal.rate == pytest.approx(false[after - 1] + share * (false[after] - false[after - 1]), abs=1e-5)
    assert -thresholds[after] <= equal.threshold < -thresholds[after] + scores.bin_width + 1e-9


def test_kinds_apart_have_no_equal_error(people_task):
    curve = accept_rates(score_pairs(people_task(spread=0.01)))
    assert curve.area() == 1
    assert curve.equal_error().rate == 0


def test_thresholds_are_the_largest_that_keep_the_rate(task, naive_pairs):
    same, different, _ = naive_pairs(task)
    scores = score_pairs(task)
    fars = [0.5, 0.2, 0.1, 0.05, 0.02]
    for far, point in zip(fars, operating_points(task, scores, fars, rounds=0), strict=True):
        assert point.far == far
        assert point.reason is None
        assert np.mean(different <= point.threshold) <= far
        assert np.mean(different <= point.threshold + scores.bin_width) > far
        assert point.true_accept == pytest.approx(np.mean(same <= point.threshold), abs=1e-12)
        assert point.threshold_interval is point.true_accept_interval is None


def test_a_rate_below_one_pair_is_not_measurable(people_task):
    task = people_task()
    scores = score_pairs(task)
    count = int(scores.different.sum())
    measured, not_measured = operating_points(task, scores, [1 / count, 0.99 / count], rounds=10)
    assert measured.threshold is not None
    assert measured.threshold_interval is not None
    assert not_measured.threshold is not_measured.true_accept is not_measured.threshold_interval is None
    assert not_measured.reason == f"not measurable with {count:,} different pairs"


def test_equal_images_of_different_identities_can_leave_no_threshold():
    equal = FeatureSet(torch.ones(8, 3), [0, 0, 1, 1, 2, 2, 3, 3], [0, 1] * 4, list("abcdefgh"))
    task = RetrievalTask.all_against_all(equal)
    scores = score_pairs(task)
    (point,) = operating_points(task, scores, [0.1])
    assert point.threshold is None
    assert point.reason == "no distance keeps it: 100.00% of 48 different pairs have distance 0"
    assert [row.reason for row in open_set_points(scores, [point], [0.01, 0.5])] == [
        point.reason,
        "not measurable with 8 queries",
        "no distance keeps it: 100.00% of 8 queries have distance 0",
    ]


def test_open_set_rates_are_those_of_a_loop(task, naive_pairs):
    _, _, queries = naive_pairs(task)
    scores = score_pairs(task)
    known = [query for query in queries if np.isfinite(query[0])]
    assert 0 < len(known) <= len(queries)
    for threshold in (0.0, 0.1, 0.4, 1.0, 2.0, 3.0, 50.0):
        rates = open_set_rates(scores, threshold)
        outcomes = [
            "missed" if min(own, other) > threshold else "found" if own < other else "wrong"
            for own, other, *_ in known
        ]
        for name in ("found", "wrong", "missed"):
            assert getattr(rates, name) == pytest.approx(outcomes.count(name) / len(known))
        assert rates.false_alarm == pytest.approx(np.mean([query[1] <= threshold for query in queries]))


def test_found_ends_at_rank_1(people_task):
    task = people_task(spread=1.2)
    ((query, gallery, _),) = task
    rank1 = evaluate(query, gallery).rank(1)
    assert 0.1 < rank1 < 0.9
    assert open_set_rates(score_pairs(task), 4.0).found == pytest.approx(rank1)


def test_false_alarm_thresholds_are_the_largest_that_keep_the_rate(people_task):
    task = people_task(spread=1.0)
    scores = score_pairs(task)
    points = operating_points(task, scores, [0.1], rounds=0)
    rows = open_set_points(scores, points, [0.005, 0.05, 0.2])
    assert [(row.measure, row.rate) for row in rows] == [
        ("FAR", 0.1),
        ("FPIR", 0.005),
        ("FPIR", 0.05),
        ("FPIR", 0.2),
    ]
    assert rows[0].threshold == points[0].threshold
    assert rows[0].rates == open_set_rates(scores, points[0].threshold)
    assert (rows[1].threshold, rows[1].rates) == (None, None)
    assert rows[1].reason == f"not measurable with {len(scores.other)} queries"
    for row in rows[2:]:
        assert row.rates.false_alarm <= row.rate
        assert open_set_rates(scores, row.threshold + scores.bin_width).false_alarm > row.rate


def test_absent_queries_are_strangers_and_not_known():
    query = FeatureSet(torch.tensor([[0.0], [10.0], [20.0]]), [1, 2, 3], [0, 0, 0], list("abc"))
    gallery = FeatureSet(torch.tensor([[1.0], [12.0], [20.0]]), [1, 2, 2], [1, 0, 1], list("def"))
    scores = score_pairs(RetrievalTask.between(query, gallery))
    assert scores.absent == 1
    np.testing.assert_array_equal(scores.own, [1, 100, np.inf])
    np.testing.assert_array_equal(scores.other, [144, 81, 0])
    # Query 2 has two images: the nearer, of its own camera, is removed.
    assert open_set_rates(scores, 1.0) == (1 / 3, 1 / 2, 0, 1 / 2)
    assert open_set_rates(scores, 100.0) == (2 / 3, 1 / 2, 1 / 2, 0)


def test_the_gallery_of_one_identity_has_no_stranger():
    query = FeatureSet(torch.tensor([[0.0], [5.0]]), [1, 2], [0, 0], list("ab"))
    gallery = FeatureSet(torch.tensor([[1.0]]), [1], [1], list("c"))
    scores = score_pairs(RetrievalTask.between(query, gallery))
    np.testing.assert_array_equal(scores.other, [np.inf, 16])
    assert open_set_rates(scores, 30.0).false_alarm == 0.5
    (row,) = open_set_points(scores, [], [0.5])
    assert row.threshold == BINS * scores.bin_width


def test_intervals_hold_the_estimate_and_shrink_with_more_identities(people_task):
    widths = []
    for identities in (20, 180):
        task = people_task(identities, spread=0.7)
        points = operating_points(task, score_pairs(task), [1e-1, 1e-2], rounds=300)
        for point in points:
            assert point.threshold_interval.low <= point.threshold <= point.threshold_interval.high
            assert point.true_accept_interval.low <= point.true_accept <= point.true_accept_interval.high
        widths.append(
            [high - low for p in points for low, high in (p.threshold_interval, p.true_accept_interval)]
        )
    assert np.all(np.array(widths[1]) < 0.6 * np.array(widths[0]))


def test_intervals_are_those_of_a_loop_that_draws_identities_with_all_their_pairs(people_task, naive_pairs):
    task = people_task(6, spread=0.7)
    query = next(iter(task)).query
    parts = []
    for pid in range(6):
        pids = torch.where(query.pids == pid, pid, -1)
        parts.append(
            naive_pairs(
                RetrievalTask.between(FeatureSet(query.features, pids, query.camids, query.paths), query)
            )
        )
    generator = np.random.default_rng(3)
    thresholds, true = [], []
    for weights in generator.multinomial(6, np.full(6, 1 / 6), size=200):
        drawn = [part for part, weight in zip(parts, weights, strict=True) for _ in range(weight)]
        same, different = (np.concatenate([part[kind] for part in drawn]) for kind in range(2))
        order = np.sort(different)
        kept = (
            np.arange(1, len(order) + 1)[np.searchsorted(order, order, side="right") - 1] / len(order) <= 0.05
        )
        thresholds.append(order[kept.sum()])
        true.append(np.mean(same < thresholds[-1]))
    (point,) = operating_points(task, score_pairs(task), [0.05], rounds=200, seed=3)
    np.testing.assert_allclose(point.threshold_interval, np.quantile(thresholds, [0.025, 0.975]), atol=2e-3)
    np.testing.assert_allclose(point.true_accept_interval, np.quantile(true, [0.025, 0.975]), atol=5e-3)


def test_identities_with_the_same_distances_leave_no_doubt():
    crowd = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0))
    query = FeatureSet(torch.zeros(2, 1), [1, 2], [0, 0], list("ab"))
    paths = [f"{i}.jpg" for i in range(20_002)]
    found = torch.full((2, 1), 0.5)
    gallery = FeatureSet(torch.cat([found, crowd]), [1, 2, *[3] * 20_000], [1] * 20_002, paths)
    task = RetrievalTask.between(query, gallery)
    for point in operating_points(task, score_pairs(task), [0.123, 0.456, 0.789], rounds=20):
        assert point.threshold_interval == (point.threshold, point.threshold)


def test_equal_seeds_give_equal_intervals(people_task):
    task = people_task()
    scores = score_pairs(task)
    first, again, other = (operating_points(task, scores, [0.01], rounds=700, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first[0].threshold == other[0].threshold
    assert first[0].threshold_interval != other[0].threshold_interval


def test_one_identity_has_no_interval():
    query = FeatureSet(torch.tensor([[0.0]]), [1], [0], list("a"))
    gallery = FeatureSet(torch.tensor([[1.0], [3.0], [4.0]]), [1, 2, 3], [1, 1, 1], list("bcd"))
    task = RetrievalTask.between(query, gallery)
    (point,) = operating_points(task, score_pairs(task), [0.5])
    assert 9 <= point.threshold < 16
    assert point.threshold_interval is None


def test_rounds_without_a_same_pair_are_left_out():
    # Only identity 1 has a match: a round that draws it not at all has no true accept rate.
    query = FeatureSet(torch.tensor([[0.0], [5.0]]), [1, 2], [0, 0], list("ab"))
    gallery = FeatureSet(torch.tensor([[1.0], [8.0]]), [1, 3], [1, 1], list("cd"))
    task = RetrievalTask.between(query, gallery)
    (point,) = operating_points(task, score_pairs(task), [0.4], rounds=50)
    assert point.true_accept_interval == (1, 1)
    assert np.isfinite(point.threshold_interval).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"fars": [0.1, 0.0]}, r"a false accept rate must be above 0 and below 1, got 0\.0"),
        ({"fars": [1.0]}, r"got 1\.0"),
        ({"fars": [0.1], "rounds": -1}, "bootstrap rounds must be 0 to 1,000,000, got -1"),
        ({"fars": [0.1], "seed": -2}, "the seed must be 0 or more, got -2"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, people_task):
    task = people_task()
    with pytest.raises(ValueError, match=message):
        operating_points(task, score_pairs(task), **arguments)


def test_a_wrong_false_alarm_rate_is_named(people_task):
    with pytest.raises(ValueError, match=r"a false alarm rate must be above 0 and below 1, got 2"):
        open_set_points(score_pairs(people_task()), [], [2])
