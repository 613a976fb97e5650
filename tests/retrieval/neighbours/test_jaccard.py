"""Jaccard distances of near pairs against a dense loop and against re-ranking without Euclidean part."""

import tracemalloc

import numpy as np
import pytest
import torch

from retrieval import distance, jaccard_graph, k_reciprocal_distance

ROUNDING = 2e-6


def random_features(seed, count=50, width=4):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count // 6, width, generator=generator)
    owners = torch.randint(len(centres), (count,), generator=generator)
    return centres[owners] + 0.4 * torch.randn(count, width, generator=generator)


def whole_numbers(seed, count=50):
    """With copies, ties and distances that are exact in any order of sums."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 4, (count, 3)).astype(np.float32))


def reciprocal(ranking, i, count):
    return {j for j in ranking[i][:count] if i in ranking[j][:count]}


def naive(features, k1, k2):
    """All distances (N, N), dense and in float64, with Σmin and Σmax added up one image after the other."""
    features = features.numpy().astype(np.float64)
    count = len(features)
    original = np.stack([((features - row) ** 2).sum(1) for row in features])
    largest = original.max(axis=1)
    to_sort = original.copy()
    np.fill_diagonal(to_sort, -1)  # an image comes before its copies
    ranking = np.argsort(to_sort, axis=1, kind="stable").tolist()
    encoded = np.zeros((count, count))
    for i in range(count):
        own = reciprocal(ranking, i, k1 + 1)
        members = set(own)
        for j in own:
            other = reciprocal(ranking, j, round(k1 / 2) + 1)
            if 3 * len(other & own) > 2 * len(other):
                members |= other
        for j in members:
            encoded[i, j] = np.exp(-original[i, j] / (largest[i] or 1))
        encoded[i] /= encoded[i].sum()
    encoded = np.stack([encoded[ranking[i][:k2]].mean(axis=0) for i in range(count)])
    result = np.zeros((count, count))
    for i in range(count):
        for g in range(count):
            smaller = sum(min(a, b) for a, b in zip(encoded[i], encoded[g], strict=True))
            larger = sum(max(a, b) for a, b in zip(encoded[i], encoded[g], strict=True))
            result[i, g] = 1 - smaller / larger
    return result


def entries(graph):
    """Which pairs are stored, and their distances with inf for the others."""
    coo = graph.tocoo()
    dense = np.full(graph.shape, np.inf)
    dense[coo.coords] = coo.data
    return np.isfinite(dense), dense


def assert_same(graph, expected, radius):
    assert np.abs(expected - radius).min() > ROUNDING, "a distance is too near to the radius to compare"
    stored, dense = entries(graph)
    np.testing.assert_array_equal(stored, expected <= radius)
    np.testing.assert_allclose(dense[stored], expected[stored], atol=ROUNDING)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k1, k2, radius", [(6, 3, 0.7), (5, 1, 0.5), (1, 2, 0.9), (12, 20, 0.3)])
def test_equals_the_dense_loop(seed, k1, k2, radius):
    features = random_features(seed)
    expected = naive(features, k1, k2)
    assert_same(jaccard_graph(features, k1, k2, radius), expected, radius)


@pytest.mark.parametrize("k1, k2", [(30, 6), (9, 40), (10, 1)])
def test_neighbourhoods_larger_than_the_image_count(k1, k2):
    features = random_features(0, count=10)
    assert_same(jaccard_graph(features, k1, k2, 0.6), naive(features, k1, k2), 0.6)


@pytest.mark.parametrize("seed", range(2))
def test_copies_and_ties_as_in_the_dense_loop(seed):
    features = whole_numbers(seed)
    assert len(features.unique(dim=0)) < len(features)
    assert_same(jaccard_graph(features, 6, 3, 0.65), naive(features, 6, 3), 0.65)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_other_precisions(dtype):
    features = whole_numbers(2)
    graph = jaccard_graph(features.to(dtype), 6, 3, 0.65)
    assert graph.dtype == np.float32
    assert_same(graph, naive(features, 6, 3), 0.65)


def test_equals_reranking_without_euclidean_part():
    features = random_features(4, count=60)
    expected = k_reciprocal_distance(features[:20], features[20:], 8, 4, 0.0, dtype=np.float64).numpy()
    stored, dense = (part[:20, 20:] for part in entries(jaccard_graph(features, 8, 4, 0.999)))
    np.testing.assert_array_equal(stored, expected < 0.999)
    np.testing.assert_allclose(dense[stored], expected[stored], atol=ROUNDING)
    assert 0 < stored.sum() < stored.size


def test_is_symmetric_to_the_last_bit_and_sorted():
    graph = jaccard_graph(random_features(5, count=300, width=8), 10, 4, 0.9)
    assert graph.format == "csr" and graph.dtype == np.float32 and graph.indices.dtype == np.int32
    assert graph.data.min() == 0 and graph.data.max() <= np.float32(0.9)
    for row in range(300):
        columns = graph.indices[graph.indptr[row] : graph.indptr[row + 1]]
        assert (np.diff(columns) > 0).all() and row in columns
    transposed = graph.T.tocsr()
    transposed.sort_indices()
    assert transposed.indices.tolist() == graph.indices.tolist()
    assert transposed.data.tobytes() == graph.data.tobytes()


def test_the_radius_itself_is_within():
    features = random_features(6)
    stored, dense = entries(jaccard_graph(features, 6, 3, 0.999))
    values = np.unique(dense[stored].astype(np.float32))
    for value in values[[1, len(values) // 2, -2]]:
        within, cut = entries(jaccard_graph(features, 6, 3, float(value)))
        np.testing.assert_array_equal(within, dense <= value)
        np.testing.assert_array_equal(cut[within], dense[within])
        below = float(np.nextafter(value, np.float32(0)))
        np.testing.assert_array_equal(entries(jaccard_graph(features, 6, 3, below))[0], dense < value)


def test_what_shares_no_neighbour_is_farther_than_any_radius():
    features = torch.tensor([[0.0], [1.0], [100.0], [101.0]])
    graph = jaccard_graph(features, 1, 1, 1 - 1e-12)  # 1 in float32
    assert graph.indices.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    # V of the first two is (1, a) / (1 + a) and (b, 1) / (1 + b): exp(-1 / largest) of each, below 1.
    a, b = np.exp([-1 / 101**2, -1 / 100**2])
    overlap = a / (1 + a) + b / (1 + b)
    expected = 1 - overlap / (2 - overlap)
    np.testing.assert_allclose(graph.data, [0, expected, expected, 0] * 2, atol=1e-6)
    assert expected > 5e-5


def test_copies_are_stored_as_zeros():
    graph = jaccard_graph(torch.tensor([[0.5, 0.25]]).repeat(4, 1), 3, 2, 0.01)
    assert graph.nnz == 16 and graph.data.tolist() == [0.0] * 16


def test_a_copy_among_others_is_at_distance_zero_within_rounding():
    features = random_features(7)
    features[31] = features[12]
    stored, dense = entries(jaccard_graph(features, 6, 3, 1e-5))
    assert stored[12, 31] and stored[31, 12] and dense[12, 31] <= ROUNDING
    assert (dense.diagonal() == 0).all()


def test_one_image():
    graph = jaccard_graph(torch.tensor([[3.0, 4.0]]))
    assert graph.shape == (1, 1) and graph.indices.tolist() == [0] and graph.data.tolist() == [0.0]


def test_an_image_is_within_the_smallest_radius_of_itself():
    graph = jaccard_graph(random_features(8), 6, 3, 1e-30)
    assert (graph.diagonal() == 0).all() and entries(graph)[0].diagonal().all()


def test_block_size_does_not_matter(monkeypatch):
    features = whole_numbers(3)
    whole = jaccard_graph(features, 6, 3)
    monkeypatch.setattr(distance, "CHUNK_ELEMENTS", 70)
    parts = jaccard_graph(features, 6, 3)
    assert whole.indices.tolist() == parts.indices.tolist() and whole.data.tolist() == parts.data.tolist()


def test_gradients_are_not_followed():
    features = random_features(9)
    expected = jaccard_graph(features, 6, 3)
    assert jaccard_graph(features.requires_grad_(), 6, 3).data.tolist() == expected.data.tolist()


def test_no_dense_matrix_is_formed(monkeypatch):
    monkeypatch.setattr(distance, "CHUNK_ELEMENTS", 1 << 18)
    features = random_features(10, count=4000, width=16)
    tracemalloc.start()
    jaccard_graph(features, 10, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 4000  # bytes: a quarter of a matrix in float32


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"k1": 0}, "k1 and k2 must be at least 1, got k1 = 0 and k2 = 6"),
        ({"k2": 0}, "got k1 = 30 and k2 = 0"),
        ({"radius": 0.0}, r"radius must be above 0 and below 1, got 0\.0"),
        ({"radius": 1}, "radius must be above 0 and below 1, got 1"),
        ({"radius": -0.5}, r"got -0\.5"),
        ({"radius": float("nan")}, "got nan"),
        ({"features": torch.zeros(0, 2)}, "there are no features: at least one image is needed"),
        ({"features": torch.zeros(2)}, r"features must be a matrix \(N, D\), got shape \(2,\)"),
        ({"features": torch.tensor([[0.0], [float("inf")]])}, "features are not finite in 1 of 2 rows"),
        ({"features": torch.tensor([[1e30], [0.0]])}, "squared norms .* first is row 0"),
    ],
)
def test_refuses(changes, message):
    arguments = {"features": torch.ones(3, 2)} | changes
    with pytest.raises(ValueError, match=message):
        jaccard_graph(**arguments)
