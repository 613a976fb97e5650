"""Squared distances against a loop, and the cut into blocks."""

import numpy as np
import pytest
import torch

from retrieval import distance, squared_euclidean


def test_equals_the_sum_of_squared_differences():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(5, 7)), generator.normal(size=(4, 7))
    expected = [[sum((x - y) ** 2 for x, y in zip(u, v, strict=True)) for v in b] for u in a]
    got = squared_euclidean(torch.from_numpy(a), torch.from_numpy(b))
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_whole_numbers_are_exact_and_half_precision_is_widened():
    a = torch.tensor([[300.0, 1.0], [0.0, 2.0]])
    b = torch.tensor([[0.0, 1.0]])
    for dtype in (torch.float16, torch.float32, torch.int64):
        got = squared_euclidean(a.to(dtype), b.to(dtype))
        assert got.dtype == torch.float32
        assert got.tolist() == [[90000.0], [1.0]]  # 90000 is beyond float16


def test_rounding_never_gives_a_negative_distance():
    rows = torch.randn(50, 33, generator=torch.Generator().manual_seed(0)) * 100
    assert squared_euclidean(rows, rows).min() >= 0


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((3,), (2, 3)), ((2, 3), (1, 2, 3))])
def test_refuses_other_shapes(shapes):
    a, b = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"\(N, D\) and \(M, D\) of one width") as error:
        squared_euclidean(a, b)
    assert str(shapes[0]) in str(error.value) and str(shapes[1]) in str(error.value)


@pytest.mark.parametrize("elements, expected", [(12, [3, 3, 1]), (7, [1] * 7), (2, [1] * 7), (100, [7])])
def test_row_slices_cover_all_rows_once(monkeypatch, elements, expected):
    monkeypatch.setattr(distance, "CHUNK_ELEMENTS", elements)
    slices = list(distance.row_slices(7, 4))
    assert [part.stop - part.start for part in slices] == expected
    assert [row for part in slices for row in range(7)[part]] == list(range(7))
