"""Pairs by distance against a loop over pairs."""

import numpy as np
import pytest
import torch

from retrieval import FeatureSet, RetrievalTask, distance
from retrieval.thresholds.pair_scores import BINS, count_by_identity, score_pairs


@pytest.mark.parametrize("elements", [1, 70, 1 << 24])
@pytest.mark.parametrize(
    "seed, trials, rule", [(0, 1, "cross_camera"), (1, 1, "all"), (2, 3, "cross_camera")]
)
def test_pairs_are_counted_as_by_a_loop_in_any_blocks(
    monkeypatch, seed, trials, rule, elements, whole_number_task, naive_pairs
):
    monkeypatch.setattr(distance, "CHUNK_ELEMENTS", elements)
    task = whole_number_task(seed, trials=trials, rule=rule)
    same, different, queries = naive_pairs(task)
    scores = score_pairs(task)
    assert not scores.unit_norm
    for counts, distances in ((scores.same, same), (scores.different, different)):
        assert counts.sum() == len(distances)
        # Whole numbers lie on edges of bins, whose width is a power of two.
        expected = np.bincount((distances / scores.bin_width).astype(int), minlength=BINS + 1)
        np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(scores.own, [query[0] for query in queries])
    np.testing.assert_array_equal(scores.other, [query[1] for query in queries])
    assert scores.identities == len({query[2] for query in queries})
    assert scores.absent == sum(query[3] for query in queries)


def test_the_bins_reach_as_far_as_the_distances(whole_number_task, naive_pairs):
    task = whole_number_task()
    largest = max(part.max() for part in naive_pairs(task)[:2])
    assert BINS * score_pairs(task).bin_width >= largest
    features = torch.tensor([[0.0], [1000.0], [-1000.0], [0.5]])
    far_apart = FeatureSet(features, [1, 1, 2, 2], [0, 1, 0, 1], list("abcd"))
    scores = score_pairs(RetrievalTask.all_against_all(far_apart))
    # The largest, 4,000,000, has a bin of its own below the last.
    assert scores.different[round(4e6 / scores.bin_width)] == 2
    assert scores.different[BINS] == 0


def test_distances_of_unit_features_are_binned_up_to_4(people_task):
    scores = score_pairs(people_task())
    assert scores.unit_norm
    assert scores.bin_width == 4 / BINS
    half = people_task()
    half = RetrievalTask(
        FeatureSet(half.images.features.half(), half.images.pids, half.images.camids, half.images.paths),
        half.trials,
    )
    assert score_pairs(half).unit_norm


def test_opposite_features_are_the_last_bin():
    features = torch.nn.functional.normalize(torch.randn(1, 300, generator=torch.Generator().manual_seed(0)))
    pair = FeatureSet(torch.cat([features, -features, features]), [1, 2, 1], [0, 0, 1], list("abc"))
    scores = score_pairs(RetrievalTask.all_against_all(pair))
    assert scores.different[-5:].sum() == scores.different.sum() == 4


@pytest.mark.parametrize("elements", [1, 70, 1 << 24])
def test_pairs_by_identity_are_those_of_its_queries(monkeypatch, elements, whole_number_task, naive_pairs):
    monkeypatch.setattr(distance, "CHUNK_ELEMENTS", elements)
    task = whole_number_task(3, trials=2)
    scores = score_pairs(task)
    edges = np.array([-1, 0, int(4 / scores.bin_width), int(9 / scores.bin_width), BINS])
    counts = count_by_identity(task, scores, edges)
    for row, pid in enumerate(sorted({int(pid) for query, _, _ in task for pid in query.pids if pid != -1})):
        parts = []
        for query, gallery, _ in task:
            only = torch.where(query.pids == pid, pid, -1)
            query = FeatureSet(query.features, only, query.camids, query.paths)
            parts.append(naive_pairs(RetrievalTask.between(query, gallery)))
        for kind in range(2):
            distances = np.concatenate([part[kind] for part in parts])
            expected = np.histogram(distances, [-np.inf, -0.5, 0.5, 4.5, 9.5, np.inf])[0]
            np.testing.assert_array_equal(counts[kind][row], expected)


@pytest.mark.parametrize(
    "pids, camids, message",
    [
        (
            [-1, -1, -1, -1],
            [0, 1, 0, 1],
            "got 0 such queries and 0 such gallery images; the others have pid -1",
        ),
        ([1, 1, 2, 2], [0, 0, 0, 0], "got 0 and 8 among 4 queries and 4 gallery images"),
        ([1, 1, 1, 1], [0, 1, 0, 1], "got 8 and 0 among 4 queries and 4 gallery images"),
    ],
)
def test_without_pairs_of_both_kinds_there_is_no_threshold(pids, camids, message):
    features = torch.arange(4.0)[:, None]
    with pytest.raises(ValueError, match="a threshold needs") as error:
        score_pairs(RetrievalTask.all_against_all(FeatureSet(features, pids, camids, list("abcd"))))
    assert message in str(error.value)


def test_features_that_are_not_finite_are_refused():
    features = torch.tensor([[0.0], [np.nan], [1.0], [2.0]])
    task = RetrievalTask.all_against_all(FeatureSet(features, [1, 1, 2, 2], [0, 1, 0, 1], list("abcd")))
    with pytest.raises(ValueError, match="not finite in 1 of 4 rows"):
        score_pairs(task)
