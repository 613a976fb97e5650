"""evaluate against golden numbers, hand-made rankings and a plain loop; every refusal."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval import FeatureSet, RetrievalMetrics, distance, evaluate, score_queries

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "metrics.npz")


def golden_set(name):
    pids, camids = GOLDEN[f"{name[0]}_pids"], GOLDEN[f"{name[0]}_camids"]
    return FeatureSet(GOLDEN[name], pids, camids, [f"{name}{i}" for i in range(len(pids))])


def on_a_line(positions, pids, camids=None, name="image"):
    """Images with one-dimensional features, each with a path of its own."""
    camids = [0 if name == "query" else 1] * len(pids) if camids is None else camids
    return FeatureSet(
        torch.tensor(positions)[:, None], pids, camids, [f"{name}{i}" for i in range(len(pids))]
    )


def random_sets(seed):
    """Whole-number features, so that distances tie exactly; unknown cameras and shared images occur."""
    generator = np.random.default_rng(seed)
    sets = []
    for size in (9, int(generator.integers(4, 70))):
        sets.append(
            FeatureSet(
                generator.integers(0, 3, size=(size, 3)).astype(np.float32),
                generator.integers(0, 5, size=size),
                generator.integers(-1, 3, size=size),
                [f"{generator.integers(0, 30)}.jpg" for _ in range(size)],
            )
        )
    return sets


def naive(query, gallery, max_rank):
    """CMC, mAP, mINP and the number of valid queries, one pair of images at a time."""
    length = min(max_rank, len(gallery))
    curves, precisions, penalties = [], [], []
    for i in range(len(query)):
        ranking = []
        for j in range(len(gallery)):
            unknown = -1 in (query.camids[i], gallery.camids[j])
            if unknown and query.paths[i] == gallery.paths[j]:
                continue
            same = query.pids[i] == gallery.pids[j]
            if same and query.camids[i] == gallery.camids[j] and query.camids[i] != -1:
                continue
            squares = (query.features[i].double() - gallery.features[j].double()) ** 2
            ranking.append((squares.sum().item(), j, bool(same)))
        hits = [hit for _, _, hit in sorted(ranking)]
        if not any(hits):
            continue
        places = [place for place, hit in enumerate(hits, start=1) if hit]
        precisions.append(sum((n + 1) / place for n, place in enumerate(places)) / len(places))
        penalties.append(len(places) / places[-1])
        curves.append([float(places[0] <= k) for k in range(1, length + 1)])
    return np.mean(curves, axis=0), np.mean(precisions), np.mean(penalties), len(curves)


@pytest.mark.parametrize("kind", ["norm", "raw"])
def test_golden(kind):
    query, gallery = golden_set("query"), golden_set("gallery")
    if kind == "norm":
        query, gallery = query.normalized(), gallery.normalized()
    result = evaluate(query, gallery)
    np.testing.assert_allclose(result.cmc, GOLDEN[f"cmc_{kind}"], atol=1e-6)
    assert result.mAP == pytest.approx(float(GOLDEN[f"mAP_{kind}"]), abs=1e-6)
    assert result.num_valid == 52


def test_hand_made_ranking():
    query = on_a_line([0.0], [1], name="query")
    gallery = on_a_line([3.0, 1.0, 4.0, 2.0], [1, 1, 2, 2])  # from near to far: pid 1, 2, 1, 2
    result = evaluate(query, gallery)
    assert result.cmc.tolist() == [1.0, 1.0, 1.0, 1.0]
    assert result.mAP == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert result.mINP == pytest.approx(2 / 3)
    assert result.num_valid == 1


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("max_rank", [50, 5])
def test_equals_the_plain_loop(seed, max_rank):
    query, gallery = random_sets(seed)
    cmc, mean_precision, mean_penalty, num_valid = naive(query, gallery, max_rank)
    result = evaluate(query, gallery, max_rank=max_rank)
    np.testing.assert_allclose(result.cmc, cmc, atol=1e-12)
    assert result.mAP == pytest.approx(mean_precision, abs=1e-12)
    assert result.mINP == pytest.approx(mean_penalty, abs=1e-12)
    assert result.num_valid == num_valid


@pytest.mark.parametrize("elements", [1, 150])
def test_block_size_does_not_matter(monkeypatch, elements):
    query, gallery = random_sets(3)
    whole = evaluate(query, gallery)
    monkeypatch.setattr(distance, "CHUNK_ELEMENTS", elements)
    cut = evaluate(query, gallery)
    assert cut.cmc.tolist() == whole.cmc.tolist()
    assert (cut.mAP, cut.mINP, cut.num_valid) == (whole.mAP, whole.mINP, whole.num_valid)


def test_same_camera_is_removed_but_only_for_the_same_identity():
    query = on_a_line([0.0], [1], [0], name="query")
    gallery = on_a_line([1.0, 2.0, 3.0], [1, 2, 1], [0, 0, 1])
    result = evaluate(query, gallery)
    # The first image is out, the second is a distractor at place 1, the third a hit at place 2.
    assert result.cmc.tolist() == [0.0, 1.0, 1.0]
    assert result.mAP == 0.5


def test_background_images_are_distractors():
    result = evaluate(on_a_line([0.0], [1], name="query"), on_a_line([1.0, 2.0], [0, 1]))
    assert result.rank(1) == 0.0 and result.mAP == 0.5


def test_unknown_cameras_remove_nothing_but_the_image_itself():
    images = on_a_line([0.0, 1.0, 5.0], [1, 1, 2], [-1, -1, -1])
    result = evaluate(images, images)
    # Images 0 and 1 find each other first; image 2 has no match but itself and is skipped.
    assert result.num_valid == 2
    assert result.mAP == 1.0


def test_duplicate_of_the_query_under_another_path_is_a_hit():
    query = FeatureSet(torch.zeros(1, 2), [1], [-1], ["query.jpg"])
    gallery = FeatureSet(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), [1, 2], [-1, -1], ["copy.jpg", "other.jpg"])
    assert evaluate(query, gallery).cmc.tolist() == [1.0, 1.0]


def test_same_path_with_known_cameras_is_kept():
    query = FeatureSet(torch.zeros(1, 2), [1], [0], ["a.jpg"])
    gallery = FeatureSet(torch.zeros(1, 2), [1], [1], ["a.jpg"])
    assert evaluate(query, gallery).num_valid == 1


@pytest.mark.parametrize("camids", [(0, -1), (-1, 0), (-1, -1)])
def test_same_path_leaves_where_a_camera_is_unknown(camids):
    query, gallery = (FeatureSet(torch.zeros(1, 2), [1], [camid], ["a.jpg"]) for camid in camids)
    with pytest.raises(ValueError, match="only their own picture"):
        evaluate(query, gallery)


@pytest.mark.parametrize("pids, expected", [([2, 1], [0.0, 1.0]), ([1, 2], [1.0, 1.0])])
def test_ties_rank_by_gallery_index(pids, expected):
    result = evaluate(on_a_line([0.0], [1], name="query"), on_a_line([1.0, -1.0], pids))
    assert result.cmc.tolist() == expected


def test_rule_all_removes_nothing():
    query = on_a_line([0.0], [1], [0], name="query")
    gallery = on_a_line([1.0, 2.0], [1, 1], [0, 1])
    assert evaluate(query, gallery).mINP == 1.0  # the same camera is not counted
    with pytest.raises(ValueError, match="none of the 1 queries has an image of its identity among the 1 "):
        evaluate(query, on_a_line([1.0], [2]), rule="all")
    own = FeatureSet([[0.0], [1.0]], [1, 1], [-1, -1], ["a.jpg", "b.jpg"])
    assert score_queries(own, own, rule="all").first_rank.tolist() == [1, 1]
    with pytest.raises(ValueError, match="rule is ''; allowed: cross_camera, all"):
        evaluate(own, own, rule="")


def test_one_identity():
    result = evaluate(on_a_line([0.0, 9.0], [4, 4], name="query"), on_a_line([1.0, 2.0, 3.0], [4, 4, 4]))
    assert result.cmc.tolist() == [1.0, 1.0, 1.0]
    assert (result.mAP, result.mINP, result.num_valid) == (1.0, 1.0, 2)


def test_queries_without_a_match_are_skipped_and_logged(caplog):
    query = on_a_line([0.0, 0.0, 0.0], [1, 8, 9], name="query")
    with caplog.at_level(logging.INFO, logger="transreid.retrieval"):
        result = evaluate(query, on_a_line([1.0, 2.0], [2, 1]))
    assert (result.num_valid, result.mAP) == (1, 0.5)
    assert caplog.messages == ["2 of 3 queries have no match in the gallery and are skipped"]


def test_features_are_used_as_given():
    query = FeatureSet(torch.tensor([[1.0, 0.0]]), [1], [0], ["q"])
    # By angle the first is nearer, by distance the second.
    gallery = FeatureSet(torch.tensor([[9.0, 0.0], [0.9, 0.9]]), [1, 2], [1, 1], ["a", "b"])
    assert evaluate(query, gallery).rank(1) == 0.0
    assert evaluate(query.normalized(), gallery.normalized()).rank(1) == 1.0


def test_rerank_replaces_the_distance():
    query, gallery = on_a_line([0.0], [1], name="query"), on_a_line([1.0, 2.0], [2, 1])
    seen = []

    def farthest_first(query_features, gallery_features):
        seen.append((query_features, gallery_features))
        return -(query_features - gallery_features.T).abs()

    assert evaluate(query, gallery).rank(1) == 0.0
    assert evaluate(query, gallery, rerank=farthest_first).rank(1) == 1.0
    assert seen[0][0] is query.features and seen[0][1] is gallery.features


@pytest.mark.parametrize(
    "result, message",
    [
        (torch.zeros(2, 1), r"shape \(1, 2\), got \(2, 1\)"),
        (
            torch.tensor([[0.0, math.nan]]),
            "re-ranked distances are not finite in 1 of 1 rows, the first is row 0",
        ),
    ],
)
def test_rerank_result_is_checked(result, message):
    with pytest.raises(ValueError, match=message):
        evaluate(on_a_line([0.0], [1]), on_a_line([1.0, 2.0], [2, 1]), rerank=lambda q, g: result)


NOTHING = FeatureSet(torch.zeros(0, 1), [], [], [])
WIDE = FeatureSet(torch.zeros(1, 3), [1], [1], ["wide"])


@pytest.mark.parametrize(
    "query, gallery, message",
    [
        (NOTHING, on_a_line([0.0], [1]), "the query is empty"),
        (on_a_line([0.0], [1]), NOTHING, "the gallery is empty"),
        (on_a_line([0.0], [1]), WIDE, "query features are 1 wide and gallery features 3"),
        (on_a_line([0.0, math.nan], [1, 1]), on_a_line([0.0], [1]), "query features are not finite.*row 1"),
        (
            on_a_line([0.0], [1]),
            on_a_line([0.0, 1.0, math.inf], [1, 1, 1]),
            "gallery features.*1 of 3 rows.*row 2",
        ),
        (on_a_line([0.0], [1]), on_a_line([1e30, 1.0], [1, 1]), "squared norms of the gallery.*row 0"),
        (on_a_line([0.0, 1e20], [1, 1]), on_a_line([0.0], [1]), "squared norms of the query.*row 1"),
        (
            on_a_line([0.0], [1], [0]),
            on_a_line([0.0], [1], [0]),
            "none of the 1 queries has an image of its identity",
        ),
    ],
)
def test_refuses(query, gallery, message):
    with pytest.raises(ValueError, match=message):
        evaluate(query, gallery)


def test_refuses_two_devices():
    gallery = FeatureSet(torch.zeros(1, 1, device="meta"), [1], [1], ["a"])
    with pytest.raises(ValueError, match="query features are on cpu and gallery features on meta"):
        evaluate(on_a_line([0.0], [1]), gallery)


def test_refuses_max_rank_below_one():
    with pytest.raises(ValueError, match="max_rank must be at least 1, got 0"):
        evaluate(on_a_line([0.0], [1]), on_a_line([0.0], [1]), max_rank=0)


def test_rank_clamps_to_the_curve():
    result = RetrievalMetrics(np.array([0.25, 0.5, 0.75]), 0.5, 0.5, 4)
    assert [result.rank(k) for k in (1, 3, 10)] == [0.25, 0.75, 0.75]
    with pytest.raises(ValueError, match="rank k must be at least 1, got 0"):
        result.rank(0)


def test_mean_of_trials():
    short = RetrievalMetrics(np.array([0.5, 1.0]), 0.4, 0.2, 10)
    long = RetrievalMetrics(np.array([0.0, 0.5, 0.75]), 0.6, 0.4, 12)
    result = RetrievalMetrics.mean([short, long])
    assert result.cmc.tolist() == [0.25, 0.75, 0.875]
    assert result.mAP == pytest.approx(0.5) and result.mINP == pytest.approx(0.3)
    assert result.num_valid == 22


def test_mean_refuses_none_and_different_max_ranks():
    with pytest.raises(ValueError, match="at least one trial"):
        RetrievalMetrics.mean([])
    trials = [RetrievalMetrics(np.full(length, 0.5), 0.5, 0.5, 1) for length in (5, 10)]
    with pytest.raises(ValueError, match="curves of 5 and 10 ranks"):
        RetrievalMetrics.mean(trials)


def test_the_example_of_published_pcl():
    wanted = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.4, 0.3, 0.2, 0.1]])
    query = on_a_line([0.0, 0.0], [1, 2], [0, 0], name="query")
    gallery = on_a_line([0.0] * 5, [1, 2, 1, 2, 1], [0, 1, 1, 0, 2])
    metrics = evaluate(query, gallery, max_rank=5, rerank=lambda *features: wanted)
    assert metrics.cmc[:4].tolist() == [0, 0.5, 1, 1]
    assert metrics.mAP == pytest.approx(0.4166667, abs=1e-7)
