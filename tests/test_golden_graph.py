"""Neighbours of the published graph sampling, and batches with the classes that it puts together."""

import numpy as np
import pytest

from datasets import GraphSampler, nearest_classes

CLASSES = 23
BATCHES = [(64, 4), (32, 4), (16, 2), (4, 4), (96, 4)]


@pytest.fixture(scope="module")
def stored(golden):
    return golden("reid_task/graph.npz")


@pytest.fixture(scope="module")
def features(fill):
    common, norms = fill("graph_mean", (1, 48), 1.0), fill("graph_norm", (CLASSES, 1), 1.0)
    return (fill("graph", (CLASSES, 48), 1.0) + 0.7 * common) * (1 + 0.8 * norms.abs())


@pytest.mark.parametrize(("batch_size", "instances"), [*BATCHES[:3], BATCHES[4]])
def test_neighbours(stored, features, batch_size, instances):
    count = stored[f"neighbours_cosine_{batch_size}_{instances}"].shape[1]
    for distance in ("cosine", "dot"):
        wanted = stored[f"neighbours_{distance}_{batch_size}_{instances}"]
        assert np.array_equal(nearest_classes(features, count, distance), wanted)
    # The angle, which the published code had before, orders alike.
    angle = stored[f"neighbours_angle_{batch_size}_{instances}"]
    assert np.array_equal(angle, stored[f"neighbours_cosine_{batch_size}_{instances}"])


@pytest.mark.parametrize(("batch_size", "instances"), BATCHES[:3])
def test_rows_put_the_published_classes_together(stored, features, batch_size, instances):
    pids, name = stored["pids"], f"{batch_size}_{instances}"
    sampler = GraphSampler(pids.tolist(), batch_size, instances, seed=5, anchors="all")
    sampler.set_features(features)
    sampler.set_epoch(1)
    ours = pids[np.array(list(sampler))].reshape(CLASSES, -1, instances)
    published = pids[stored[f"index_{name}"]].reshape(CLASSES, -1, instances)
    for rows in (ours, published):
        assert (rows == rows[:, :, :1]).all()
    by_anchor = {row[-1, 0]: row[:, 0].tolist() for row in ours}
    assert len(by_anchor) == CLASSES
    assert by_anchor == {row[-1, 0]: row[:, 0].tolist() for row in published}
    neighbours = stored[f"neighbours_cosine_{name}"]
    assert all(by_anchor[anchor][:-1] == neighbours[anchor].tolist() for anchor in by_anchor)


def test_later_epochs_of_the_published_code_have_the_same_rows(stored, features):
    pids = stored["pids"]
    later = pids[stored["index_32_4_later"]].reshape(3, CLASSES, 8, 4)[..., 0]
    sampler = GraphSampler(pids.tolist(), 32, 4, seed=5, anchors="all")
    sampler.set_features(features)
    for epoch, published in enumerate(later, start=2):
        sampler.set_epoch(epoch)
        ours = pids[np.array(list(sampler))].reshape(CLASSES, 8, 4)[..., 0]
        assert sorted(ours.tolist()) == sorted(published.tolist())


@pytest.mark.parametrize(("batch_size", "instances"), BATCHES[3:])
def test_batches_that_the_published_code_takes_wrongly_are_refused(stored, batch_size, instances):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}; allowed with .*23 identities"):
        GraphSampler(stored["pids"].tolist(), batch_size, instances, seed=5, anchors="all")
