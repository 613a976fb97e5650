"""Clusters against scikit-learn on a dense matrix, and agreement with identities by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN
from torch.nn import functional as F

from retrieval import Agreement, agreement, cluster, k_reciprocal_distance


def people(seed, count=60, spread=0.35, identities=8):
    generator = torch.Generator().manual_seed(seed)
    pids = torch.randint(identities, (count,), generator=generator)
    centres = torch.randn(identities, 6, generator=generator)
    return centres[pids] + spread * torch.randn(count, 6, generator=generator), pids


def dense_distance(features, k1, k2):
    """Jaccard distances (N, N) of each image in turn as the only query."""
    dense = np.zeros((len(features), len(features)))
    for i in range(len(features)):
        others = [j for j in range(len(features)) if j != i]
        dense[i, others] = k_reciprocal_distance(
            features[i : i + 1], features[others], k1, k2, 0.0, dtype=np.float64
        )
    return dense.clip(min=0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("eps, min_samples, k1, k2", [(0.7, 4, 8, 3), (0.5, 3, 6, 2), (0.4, 2, 10, 1)])
def test_equals_dbscan_on_the_dense_matrix(seed, eps, min_samples, k1, k2):
    features, _ = people(seed)
    features = F.normalize(features)
    dense = dense_distance(features, k1, k2)
    assert np.abs(dense - eps).min() > 2e-6, "a distance is too near to eps to compare"
    expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(dense)
    labels = cluster(features, eps=eps, min_samples=min_samples, k1=k1, k2=k2)
    assert labels.shape == (60,) and labels.dtype == torch.int64 and labels.device.type == "cpu"
    assert labels.tolist() == expected.tolist()
    assert labels.max() > 0
    assert labels.unique()[labels.unique() >= 0].tolist() == list(range(int(labels.max()) + 1))


def test_groups_and_outliers():
    """Three directions of five images each, and two of one image each."""
    directions = torch.eye(5)
    features = torch.cat([directions[:3].repeat_interleave(5, 0), directions[3:]])
    features = features + 0.01 * torch.randn(17, 5, generator=torch.Generator().manual_seed(0))
    labels = cluster(features, eps=0.5, min_samples=3, k1=4, k2=1)
    assert labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [-1, -1]


def test_copies_are_one_cluster():
    assert cluster(torch.tensor([[3.0, 4.0]]).repeat(7, 1)).tolist() == [0] * 7


def test_more_samples_than_images_leave_outliers_alone():
    assert cluster(torch.ones(5, 2), min_samples=6).tolist() == [-1] * 5
    assert cluster(torch.ones(5, 2), min_samples=5).tolist() == [0] * 5


def test_one_image_counts_itself():
    assert cluster(torch.ones(1, 2), min_samples=1).tolist() == [0]
    assert cluster(torch.ones(1, 2), min_samples=2).tolist() == [-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_length_of_rows_does_not_matter(dtype):
    features, pids = people(1, spread=0.1)
    expected = cluster(features, k1=6, k2=3)
    powers = 2.0 ** torch.arange(-30, 30, dtype=dtype)  # scaling by them is exact
    assert cluster(features.to(dtype) * powers[:, None], k1=6, k2=3).tolist() == expected.tolist()
    assert agreement(expected, pids).nmi > 0.9


def test_a_row_of_zeros_is_an_image_like_others():
    features = torch.cat([torch.zeros(1, 3), torch.eye(3)[:1].repeat(6, 1)])
    assert cluster(features, k1=5, k2=1).tolist() == [-1] + [0] * 6


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"eps": 0.0}, r"eps must be above 0 and below 1, got 0\.0"),
        ({"eps": 1.0}, r"eps must be above 0 and below 1, got 1\.0"),
        ({"eps": float("nan")}, "got nan"),
        ({"min_samples": 0}, "min_samples must be at least 1, got 0"),
        ({"k1": 0}, "k1 and k2 must be at least 1, got k1 = 0 and k2 = 6"),
        ({"features": torch.zeros(0, 2)}, "there are no features"),
        ({"features": torch.zeros(2)}, r"features must be a matrix \(N, D\), got shape \(2,\)"),
        ({"features": torch.tensor([[0.0], [float("nan")]])}, "features are not finite in 1 of 2 rows"),
        ({"features": torch.tensor([[1.0], [1e30]])}, "squared norms of the features .* first is row 1"),
    ],
)
def test_refuses(changes, message):
    arguments = {"features": torch.ones(3, 2)} | changes
    with pytest.raises(ValueError, match=message):
        cluster(**arguments)


@pytest.mark.parametrize(
    "labels, pids, nmi, ari",
    [
        ([1, 1, 0, 0], [3, 3, 7, 7], 1.0, 1.0),
        # Each cluster has one image of each identity: of 6 pairs none agrees, 2·2/6 would by chance.
        ([0, 0, 1, 1], [5, 6, 5, 6], 0.0, (0 - 2 / 3) / (2 - 2 / 3)),
        ([0, 0, 0, 0], [1, 1, 2, 2], 0.0, 0.0),
        ([0, 0, 0], [4, 4, 4], 1.0, 1.0),
        (
            [0, 0, 0, 1],
            [1, 1, 2, 2],
            (math.log(4 / 3) / 2 + math.log(2 / 3) / 4 + math.log(2) / 4)
            / ((math.log(2) + math.log(4) / 4 + math.log(4 / 3) * 3 / 4) / 2),
            0.0,  # one pair in both, 3·2/6 by chance
        ),
    ],
)
def test_agreement_by_hand(labels, pids, nmi, ari):
    got = agreement(torch.tensor(labels), np.array(pids))
    assert isinstance(got, Agreement) and type(got.nmi) is float and type(got.ari) is float
    assert got == (pytest.approx(nmi, abs=1e-12), pytest.approx(ari, abs=1e-12))


def test_agreement_is_over_images_with_cluster_and_identity():
    labels, pids = [0, -1, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, -1, -1]
    assert agreement(np.array(labels), torch.tensor(pids)) == (1.0, 1.0)


@pytest.mark.parametrize(
    "labels, pids", [([-1, -1], [1, 2]), ([0, 1], [-1, -1]), ([0, -1], [-1, 1]), ([], [])]
)
def test_no_image_with_cluster_and_identity(labels, pids):
    assert agreement(torch.tensor(labels), torch.tensor(pids)) is None


@pytest.mark.parametrize("labels, pids", [([0, 1], [0]), ([[0, 1]], [[0, 1]]), ([0], [[0]])])
def test_agreement_refuses_other_shapes(labels, pids):
    with pytest.raises(ValueError, match="labels and pids must be vectors of one length, got shapes"):
        agreement(torch.tensor(labels), torch.tensor(pids))
