"""Nearest classes: against a whole matrix, among equals, in blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from datasets import graph, nearest_classes


def naive(features, count, distance):
    """One class after the other, by sorting (distance, number)."""
    rows = features.double()
    if distance == "cosine":
        rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    found = []
    for anchor in range(len(rows)):
        near = [(-float(rows[anchor] @ rows[other]), other) for other in range(len(rows)) if other != anchor]
        found.append([other for _, other in sorted(near)[:count]])
    return found


@pytest.mark.parametrize("distance", ["cosine", "dot"])
@pytest.mark.parametrize("count", [1, 5, 29])
def test_as_one_by_one(distance, count):
    torch.manual_seed(0)
    features = torch.randn(30, 8) * torch.rand(30, 1).exp()
    found = nearest_classes(features, count, distance)
    assert found.dtype == torch.int64 and found.tolist() == naive(features, count, distance)


SMALL = arrays.arrays(np.int8, st.tuples(st.integers(2, 9), st.integers(1, 3)), elements=st.integers(-2, 2))


@settings(max_examples=60, deadline=None)
@given(SMALL, st.integers(1, 100), st.data())
def test_equally_near_classes_come_by_their_number(values, at_once, data):
    features = torch.from_numpy(values).float()
    count = data.draw(st.integers(1, len(features) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "_AT_ONCE", at_once)  # blocks of any number of rows
        assert nearest_classes(features, count, "dot").tolist() == naive(features, count, "dot")


def test_directions_are_compared_by_cosine_and_sizes_count_by_dot():
    features = torch.tensor([[1.0, 0], [2, 0.1], [9, 9], [1, 0.04]])
    assert nearest_classes(features, 1)[:, 0].tolist() == [3, 3, 1, 1]
    assert nearest_classes(features, 1, "dot")[:, 0].tolist() == [2, 2, 1, 2]


def test_half_precision_is_compared_in_single():
    features = torch.tensor([[400.0, 0], [401, 0], [402, 1]]).half()  # whose products half cannot hold
    assert nearest_classes(features, 2, "dot").tolist() == [[2, 1], [2, 0], [1, 0]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.ones(3, 2), 1, "angle"), ["distance is 'angle'", "'cosine', 'dot'"]),
        ((torch.ones(3, 2), 3), ["count is 3", "3 classes: 1 to 2"]),
        ((torch.ones(3, 2), 0), ["count is 0", "1 to 2"]),
        ((torch.ones(3), 1), ["(3,)", "(classes, width)"]),
        ((torch.tensor([[1.0], [float("nan")]]), 1), ["features", "not finite"]),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ValueError) as error:
        nearest_classes(*arguments)
    assert all(word in str(error.value) for word in words)
