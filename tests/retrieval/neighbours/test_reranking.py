"""k-reciprocal re-ranking against a dense loop and against golden numbers.

The golden distances were added up in float16, the default; in float64 the result equals the loop below.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from retrieval import FeatureSet, distance, evaluate, k_reciprocal_distance
from retrieval.neighbours.reranking import (
    expand_sets,
    k_reciprocal_blocks,
    nearest_neighbours,
    neighbour_matrix,
    reciprocal_sets,
    smallest,
)

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "metrics.npz")
exact_distance = partial(k_reciprocal_distance, dtype=np.float64)
SETTINGS = [(50, 15, 0.3), (20, 6, 0.3), (20, 1, 0.5)]


def golden_set(name):
    pids, camids = GOLDEN[f"{name[0]}_pids"], GOLDEN[f"{name[0]}_camids"]
    return FeatureSet(GOLDEN[name], pids, camids, [f"{name}{i}" for i in range(len(pids))]).normalized()


def random_features(seed, queries=6, gallery=25, width=4):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, width, generator=generator)
    owners = torch.randint(5, (queries + gallery,), generator=generator)
    features = centres[owners] + 0.4 * torch.randn(queries + gallery, width, generator=generator)
    return features[:queries], features[queries:]


def reciprocal(ranking, i, count):
    return {j for j in ranking[i][:count] if i in ranking[j][:count]}


def naive(query, gallery, k1, k2, lam, storage=np.float64):
    """The six steps over dense matrices and Python sets; V and its sums are kept in `storage`."""
    features = np.concatenate([query, gallery]).astype(np.float64)
    count, queries = len(features), len(query)
    original = np.stack([((features - row) ** 2).sum(1) for row in features])
    original = original / original.max(axis=1, keepdims=True)
    to_sort = original.copy()
    np.fill_diagonal(to_sort, -1)  # an image comes before its copies
    ranking = np.argsort(to_sort, axis=1, kind="stable").tolist()

    encoded = np.zeros((count, count), dtype=storage)
    for i in range(count):
        own = reciprocal(ranking, i, k1 + 1)
        members = set(own)
        for j in own:
            other = reciprocal(ranking, j, int(np.around(k1 / 2)) + 1)
            if len(other & own) > 2 / 3 * len(other):
                members |= other
        members = sorted(members)
        weights = np.exp(-original[i, members])
        encoded[i, members] = weights / weights.sum()
    if k2 > 1:
        encoded = np.stack([encoded[ranking[i][:k2]].mean(axis=0) for i in range(count)])

    final = np.zeros((queries, count - queries))
    for i in range(queries):
        smaller = np.zeros(count, dtype=storage)
        for j in np.flatnonzero(encoded[i]):
            smaller += np.minimum(encoded[i, j], encoded[:, j])
        jaccard = 1 - smaller / (2 - smaller)
        final[i] = (jaccard * (1 - lam) + original[i] * lam)[queries:]
    return final


@pytest.mark.parametrize("k1, k2, lam", SETTINGS)
def test_golden(k1, k2, lam):
    query, gallery = golden_set("query"), golden_set("gallery")
    rerank = partial(k_reciprocal_distance, k1=k1, k2=k2, lam=lam)
    name = f"k1_{k1}_k2_{k2}_l{lam}"
    expected = GOLDEN[f"rerank_dist_{name}"]
    error = np.abs(rerank(query.features, gallery.features).numpy() - expected)
    # One float16 step of a single weight may still fall the other way.
    assert error.max() < 1e-3 and np.quantile(error, 0.999) < 1e-6
    result = evaluate(query, gallery, rerank=rerank)
    assert result.mAP == pytest.approx(float(GOLDEN[f"rerank_mAP_{name}"]), abs=1e-4)
    np.testing.assert_allclose(result.cmc, GOLDEN[f"rerank_cmc_{name}"], atol=1e-6)


@pytest.mark.parametrize("k1, k2, lam", SETTINGS)
def test_exact_differs_from_golden_by_half_precision_only(k1, k2, lam):
    query, gallery = golden_set("query").features, golden_set("gallery").features
    expected = GOLDEN[f"rerank_dist_k1_{k1}_k2_{k2}_l{lam}"]
    got = exact_distance(query, gallery, k1, k2, lam).numpy()
    np.testing.assert_allclose(got, naive(query.numpy(), gallery.numpy(), k1, k2, lam), atol=1e-6)
    assert np.abs(got - expected).max() < 4e-3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k1, k2, lam", [(6, 3, 0.3), (5, 1, 0.0), (9, 4, 1.0), (1, 2, 0.5), (12, 20, 0.2)])
def test_equals_the_dense_loop(seed, k1, k2, lam):
    query, gallery = random_features(seed)
    got = exact_distance(query, gallery, k1, k2, lam)
    assert got.shape == (6, 25) and got.dtype == torch.float32 and got.device.type == "cpu"
    np.testing.assert_allclose(got.numpy(), naive(query.numpy(), gallery.numpy(), k1, k2, lam), atol=1e-6)


@pytest.mark.parametrize("k1, k2", [(50, 15), (500, 200), (31, 31), (30, 1)])
def test_neighbourhoods_larger_than_the_image_count(k1, k2):
    query, gallery = random_features(0)  # 31 images
    got = exact_distance(query, gallery, k1, k2)
    np.testing.assert_allclose(got.numpy(), naive(query.numpy(), gallery.numpy(), k1, k2, 0.3), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_precisions(dtype):
    query, gallery = (features.to(dtype) for features in random_features(1))
    got = exact_distance(query, gallery, 6, 3)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), naive(query.numpy(), gallery.numpy(), 6, 3, 0.3), atol=1e-6)


def test_block_size_does_not_matter(monkeypatch):
    query, gallery = random_features(2)
    whole = exact_distance(query, gallery, 6, 3)
    monkeypatch.setattr(distance, "CHUNK_ELEMENTS", 40)
    torch.testing.assert_close(exact_distance(query, gallery, 6, 3), whole, rtol=0, atol=1e-6)


def test_copies_of_one_image_are_at_distance_zero():
    one = torch.tensor([[0.5, 0.25, 1.0]])
    got = k_reciprocal_distance(one.repeat(2, 1), one.repeat(4, 1), k1=3, k2=1, lam=1.0)
    assert got.tolist() == [[0.0] * 4] * 2


def test_duplicates_keep_every_image_among_its_own_neighbours():
    neighbours, largest = nearest_neighbours(torch.tensor([[1.0], [1.0], [1.0], [3.0]]), 2)
    assert neighbours[:, 0].tolist() == [0, 1, 2, 3]
    assert largest.tolist() == [4.0, 4.0, 4.0, 4.0]


def test_copy_of_the_query_is_the_nearest():
    query, gallery = random_features(3)
    gallery[7] = query[2]
    assert exact_distance(query, gallery, 6, 3)[2].argmin() == 7


def test_one_query_and_one_gallery_image():
    got = exact_distance(torch.tensor([[0.0]]), torch.tensor([[2.0]]))
    # Both are in both sets, so V is the mean of both rows for each: Jaccard 0; the distance is the largest.
    torch.testing.assert_close(got, torch.tensor([[0.3]]))


def test_evaluation_takes_blocks_as_it_takes_the_matrix(monkeypatch):
    query, gallery = golden_set("query"), golden_set("gallery")
    whole = evaluate(query, gallery, rerank=k_reciprocal_distance)
    monkeypatch.setattr(distance, "CHUNK_ELEMENTS", 7 * len(gallery))
    rows, blocks = zip(*k_reciprocal_blocks(query.features, gallery.features), strict=True)
    assert [part.stop - part.start for part in rows] == [7] * 8 + [4]
    torch.testing.assert_close(
        torch.cat(blocks), k_reciprocal_distance(query.features, gallery.features), rtol=0, atol=0
    )
    streamed = evaluate(query, gallery, rerank=k_reciprocal_blocks)
    assert streamed.cmc.tolist() == whole.cmc.tolist() and streamed.mAP == whole.mAP


@pytest.mark.parametrize("k", [1, 4, 9, 10])
@pytest.mark.parametrize("seed", range(4))
def test_smallest_are_the_first_of_a_stable_order(seed, k):
    values = np.random.default_rng(seed).integers(0, 4, (6, 10)).astype(np.float32)
    expected = np.argsort(values, axis=1, kind="stable")[:, :k]
    assert smallest(torch.from_numpy(values), k).tolist() == expected.tolist()


@pytest.mark.parametrize("k1, k2", [(6, 3), (50, 15)])
def test_copies_in_query_and_gallery(k1, k2):
    """Whole numbers: copies are at exactly equal distances, and ties are decided by the order of images."""
    generator = np.random.default_rng(5)
    features = generator.integers(0, 3, (24, 4)).astype(np.float32)
    query, gallery = features[:6], np.concatenate([features[6:], features[4:14]])
    got = exact_distance(torch.from_numpy(query), torch.from_numpy(gallery), k1, k2)
    np.testing.assert_allclose(got.numpy(), naive(query, gallery, k1, k2, 0.3), atol=1e-6)


def test_sets_by_hand():
    neighbours = np.array([[0, 1], [1, 2], [2, 1], [3, 0]])
    assert neighbour_matrix(neighbours).toarray().tolist() == [
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        [1, 0, 0, 1],
    ]
    assert reciprocal_sets(neighbours).toarray().tolist() == [
        [1, 0, 0, 0],
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 1],
    ]


@pytest.mark.parametrize("half_set, added", [([0, 1, 2, 3, 4, 5], False), ([0, 1, 2, 3, 4], True)])
def test_exactly_two_thirds_is_not_enough_to_expand(half_set, added):
    own, half = np.zeros((6, 6), dtype=np.int32), np.zeros((6, 6), dtype=np.int32)
    own[0, [0, 1, 2, 3]] = 1
    half[1, half_set] = 1  # of which 4 of 6, or 4 of 5, lie in the set of image 0
    expanded = expand_sets(sparse.csr_array(own), sparse.csr_array(half)).toarray()
    assert np.flatnonzero(expanded[0]).tolist() == ([0, 1, 2, 3, 4] if added else [0, 1, 2, 3])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"k1": 0}, "k1 and k2 must be at least 1, got k1 = 0 and k2 = 15"),
        ({"k2": 0}, "got k1 = 50 and k2 = 0"),
        ({"lam": 1.5}, r"lam must be in 0\.\.1, got 1\.5"),
        ({"lam": float("nan")}, r"lam must be in 0\.\.1, got nan"),
        ({"query": torch.zeros(0, 2)}, "the query is empty"),
        ({"gallery": torch.zeros(0, 2)}, "the gallery is empty"),
        ({"gallery": torch.zeros(3, 4)}, "query features are 2 wide and gallery features 4"),
        ({"query": torch.zeros(2)}, r"query features must be a matrix \(N, D\), got shape \(2,\)"),
        ({"query": torch.tensor([[0.0, float("inf")]])}, "query features are not finite in 1 of 1 rows"),
    ],
)
def test_refuses(changes, message):
    arguments = {"query": torch.ones(1, 2), "gallery": torch.ones(3, 2)} | changes
    with pytest.raises(ValueError, match=message):
        exact_distance(**arguments)
