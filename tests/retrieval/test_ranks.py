"""Ranks of chosen elements against a plain sort, by the ways of the CPU and of GPUs."""

import numpy as np
import pytest
import torch

from retrieval.ranks import _in_full_order, _in_sorted_values, ranks_in_rows


def naive(distance, rows, columns):
    order = np.argsort(distance.numpy(), axis=1, kind="stable").tolist()
    return [order[row].index(column) + 1 for row, column in zip(rows, columns, strict=True)]


def some_pairs(count, width, generator):
    chosen = generator.random((count, width)) < 0.2
    chosen[1] = False  # a row that nobody asks for
    return np.nonzero(chosen)


@pytest.mark.parametrize("find", [ranks_in_rows, _in_sorted_values, _in_full_order])
@pytest.mark.parametrize("values", [3, 40, 10**6])  # from mostly equal to all different
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_place_in_a_stable_order(seed, values, find):
    generator = np.random.default_rng(seed)
    distance = torch.from_numpy(generator.integers(0, values, (7, 30)).astype(np.float32))
    distance[0, 3:9] = torch.inf
    rows, columns = some_pairs(7, 30, generator)
    expected = naive(distance, rows, columns)
    pairs = torch.from_numpy(rows), torch.from_numpy(columns)
    assert find(distance, *pairs).tolist() == expected
    if values == 3:
        assert len(set(expected)) > 5


def test_no_pairs_and_float64():
    none = torch.zeros(0, dtype=torch.int64)
    assert ranks_in_rows(torch.rand(3, 4), none, none).tolist() == []
    distance = torch.tensor([[1.0, 1.0 + 1e-15, 1.0]], dtype=torch.float64)
    pairs = torch.tensor([0, 0, 0]), torch.tensor([1, 2, 0])
    assert ranks_in_rows(distance, *pairs).tolist() == [3, 2, 1]


def test_the_distances_stay_as_they_are():
    distance = torch.rand(4, 5)
    before = distance.clone()
    ranks_in_rows(distance, torch.tensor([0, 2]), torch.tensor([1, 1]))
    assert torch.equal(distance, before)
