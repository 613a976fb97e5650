"""Rankings of single queries against a plain loop; which queries are the worst; every refusal."""

import numpy as np
import pytest
import torch

from retrieval import (
    FeatureSet,
    RankedImage,
    k_reciprocal_blocks,
    k_reciprocal_distance,
    rank_gallery,
    score_queries,
    squared_euclidean,
    worst_queries,
)


def images(positions, pids, camids, name="image"):
    return FeatureSet(
        torch.tensor(positions, dtype=torch.float32)[:, None],
        pids,
        camids,
        [f"{name}{i}" for i in range(len(pids))],
    )


def random_sets(seed):
    """Whole-number features, so that distances tie exactly; unknown identities, cameras, shared images."""
    generator = np.random.default_rng(seed)
    return [
        FeatureSet(
            generator.integers(0, 3, size=(size, 2)).astype(np.float32),
            generator.integers(-1, 4, size=size),
            generator.integers(-1, 3, size=size),
            [f"{generator.integers(0, 30)}.jpg" for _ in range(size)],
        )
        for size in (8, 30)
    ]


def naive(query, gallery, i, distance):
    """Ranked images, matches, AP and first rank of query i, one gallery image at a time."""
    pid, camid = int(query.pids[i]), int(query.camids[i])
    ranked = []
    for j in range(len(gallery)):
        other, camera = int(gallery.pids[j]), int(gallery.camids[j])
        if -1 in (camid, camera) and query.paths[i] == gallery.paths[j]:
            continue
        if pid != -1 and pid == other and camid != -1 and camid == camera:
            continue
        match = None if -1 in (pid, other) else pid == other
        ranked.append((float(distance[i, j]), j, match))
    ranked.sort(key=lambda image: image[:2])
    places = [place for place, (_, _, match) in enumerate(ranked, start=1) if match]
    precision = np.mean([n / place for n, place in enumerate(places, start=1)]) if places else None
    return (
        [(j, d, match) for d, j, match in ranked],
        len(places),
        precision,
        places[0] if places else None,
    )


def check(rankings, rows, query, gallery, distance, top):
    assert [ranking.query for ranking in rankings] == rows
    for ranking in rankings:
        ranked, count, precision, first = naive(query, gallery, ranking.query, distance)
        assert ranking.images == tuple(RankedImage(*image) for image in ranked[:top])
        assert (ranking.num_matches, ranking.first_rank) == (count, first)
        assert ranking.average_precision == (None if precision is None else pytest.approx(precision))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("top", [1, 7, 100])
def test_as_a_plain_loop_ranks(seed, top):
    query, gallery = random_sets(seed)
    rows = [5, 0, 7, 5]
    distance = squared_euclidean(query.features, gallery.features)
    check(rank_gallery(query, gallery, rows, top), rows, query, gallery, distance, top)


@pytest.mark.parametrize("blocks", [[8], [3, 3, 2], [1] * 8])
def test_reranked_distances_of_all_queries_are_used(blocks):
    query, gallery = random_sets(1)
    distance = torch.rand(8, 30, generator=torch.Generator().manual_seed(0))
    seen = []

    def rerank(queries, galleries):
        seen.append((queries.shape, galleries.shape))
        start = 0
        for size in blocks:
            yield slice(start, start + size), distance[start : start + size].clone()
            start += size

    rows = [6, 2, 3, 0]
    check(rank_gallery(query, gallery, rows, 5, rerank), rows, query, gallery, distance, 5)
    assert seen == [((8, 2), (30, 2))]


def test_k_reciprocal_reranking_ranks_by_its_distance():
    query, gallery = random_sets(2)
    distance = k_reciprocal_distance(query.features, gallery.features)
    rows = [1, 4]
    check(rank_gallery(query, gallery, rows, 6, k_reciprocal_blocks), rows, query, gallery, distance, 6)


def test_removed_images_do_not_appear_and_unknown_ones_are_open():
    query = images([0], [7], [0])
    gallery = images([0, 1, 2, 3, 3], [7, -1, 7, 8, 7], [0, 1, 1, 0, 2])
    (ranking,) = rank_gallery(query, gallery, [0], 10)
    assert ranking.images == ((1, 1.0, None), (2, 4.0, True), (3, 9.0, False), (4, 9.0, True))
    assert (ranking.num_matches, ranking.first_rank) == (2, 2)
    assert ranking.average_precision == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_an_image_is_not_found_by_itself_when_nothing_is_known():
    everything = images([0, 1, 3], [-1] * 3, [-1] * 3)
    (ranking,) = rank_gallery(everything, everything, [1], 10)
    assert ranking.images == ((0, 1.0, None), (2, 4.0, None))
    assert (ranking.num_matches, ranking.average_precision, ranking.first_rank) == (0, None, None)


def test_the_rule_all_ranks_everything():
    everything = images([0, 1, 3], [7, 7, 8], [-1, 0, 0])
    (ranking,) = rank_gallery(everything, everything, [1], 10, rule="all")
    assert ranking.images == ((1, 0.0, True), (0, 1.0, True), (2, 4.0, False))
    assert worst_queries(everything, everything, 3) == [0, 1]  # query 2 has only itself, by the same camera
    assert worst_queries(everything, everything, 3, rule="all") == [0, 1, 2]


def test_everything_may_be_removed():
    (ranking,) = rank_gallery(images([0], [1], [0]), images([0, 1], [1, 1], [0, 0]), [0], 3)
    assert ranking.images == ()
    assert ranking.num_matches == 0


def test_worst_are_those_of_lowest_average_precision():
    query = images([0, 9, 0, 4], [1, 1, 2, 3], [0] * 4)
    gallery = images([0, 1, 2, 9], [1, 5, 2, 6], [1] * 4)  # 1 matches query 0 and 1; 3 has no match
    assert worst_queries(query, gallery, 2) == [1, 2]
    assert worst_queries(query, gallery, 100) == [1, 2, 0]


@pytest.mark.parametrize("rerank", [None, k_reciprocal_blocks])
@pytest.mark.parametrize("seed", range(3))
def test_worst_agree_with_scores(seed, rerank):
    query, gallery = random_sets(seed)
    precision = score_queries(query, gallery, rerank).average_precision.tolist()
    scored = [i for i, value in enumerate(precision) if not np.isnan(value)]
    assert worst_queries(query, gallery, 3, rerank) == sorted(scored, key=lambda i: (precision[i], i))[:3]


def test_no_query_is_worst_where_none_has_a_match():
    assert worst_queries(images([0], [-1], [-1]), images([1], [-1], [-1]), 5) == []


def test_refusals():
    query, gallery = random_sets(0)
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        rank_gallery(query, gallery, [0], 0)
    with pytest.raises(ValueError, match=r"index 8 is outside 0\.\.7"):
        rank_gallery(query, gallery, [8], 1)
    with pytest.raises(ValueError, match="query features are 2 wide and gallery features 1"):
        rank_gallery(query, images([0], [0], [0]), [0], 1)
    with pytest.raises(ValueError, match="worst queries must be at least 1, got 0"):
        worst_queries(query, gallery, 0)
    with pytest.raises(ValueError, match="re-ranking must return distances of shape"):
        rank_gallery(query, gallery, [0], 1, lambda *_: torch.zeros(2, 2))
