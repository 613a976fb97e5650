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


# ---- blocks


def features(count, seed, width=3):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_blocks_are_the_whole_matrix_piece_by_piece(monkeypatch):
    query, gallery = features(7, 0), features(4, 1)
    whole = squared_euclidean(query, gallery)
    monkeypatch.setattr(distance, "CHUNK_ELEMENTS", 12)
    for blocks in (
        distance.euclidean_blocks(query, gallery),
        distance.distance_blocks(query, gallery),
        distance.distance_blocks(query, gallery, squared_euclidean),
        distance.distance_blocks(query, gallery, distance.euclidean_blocks),
    ):
        rows, parts = zip(*blocks, strict=True)
        assert [(part.start, part.stop) for part in rows] == [(0, 3), (3, 6), (6, 7)]
        torch.testing.assert_close(torch.cat(parts), whole)


def test_blocks_may_be_written_to():
    query, gallery = features(3, 0), features(4, 1)
    whole = squared_euclidean(query, gallery)
    ((_, block),) = distance.distance_blocks(query, gallery, lambda q, g: whole)
    block.fill_(-1)
    assert whole.min() >= 0


def test_blocks_widen_half_precision_and_keep_double():
    query, gallery = features(3, 0), features(4, 1)
    for dtype, expected in ((torch.float16, torch.float32), (torch.float64, torch.float64)):
        ((_, block),) = distance.euclidean_blocks(query.to(dtype), gallery)
        assert block.dtype == expected
        torch.testing.assert_close(block, squared_euclidean(query.to(dtype), gallery))


def test_re_ranked_distances_may_be_an_array_of_whole_numbers():
    """evaluate puts an infinity in the place of images that do not count."""
    numbers = np.arange(12).reshape(3, 4)
    ((_, block),) = distance.distance_blocks(features(3, 0), features(4, 1), lambda q, g: numbers)
    assert block.dtype == torch.float32 and block.tolist() == numbers.tolist()


def ones(*row_slices):
    """A re-ranking that gives blocks of ones for these rows of any gallery."""
    return lambda q, g: ((rows, torch.ones(rows.stop - rows.start, len(g))) for rows in row_slices)


@pytest.mark.parametrize(
    ("rerank", "told"),
    [
        (lambda q, g: torch.zeros(4, 3), r"shape \(3, 4\), got \(4, 3\)"),
        (ones(slice(0, 2)), "re-ranking gave distances of 2 of 3 queries"),
        (ones(slice(0, 1), slice(2, 3)), r"shape \(2, 4\), got \(1, 4\)"),
        (
            lambda q, g: ((slice(i, i + 1), torch.full((1, 4), [1.0, torch.nan, 1][i])) for i in range(3)),
            "re-ranked distances are not finite in 1 of 1 rows, the first is row 1",
        ),
    ],
)
def test_refuses_re_ranked_distances(rerank, told):
    with pytest.raises(ValueError, match=told):
        list(distance.distance_blocks(features(3, 0), features(4, 1), rerank))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_what_is_not_finite_is_named_by_row(value, dtype):
    matrix = torch.full((5, 70), 1000.0).to(dtype)  # its sum is beyond float16
    distance.check_finite("numbers", matrix)
    matrix[2, 3] = value
    matrix[4, 0], matrix[4, 1] = torch.inf, -torch.inf
    with pytest.raises(ValueError, match="numbers are not finite in 2 of 5 rows, the first is row 12"):
        distance.check_finite("numbers", matrix, first=10)
