"""Training without identities: clusters of each epoch, what they are told, and what few clusters do."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch

from loss import PrototypeMemory
from processor.engine.objective import Objective, Step
from processor.recipes.clusters import ClusterBatches, Clusters
from processor.recipes.refresh import Prototypes, Refreshed
from retrieval import FeatureSet

FEATURES = torch.eye(6)
PIDS = torch.tensor([0, 0, 1, 1, 2, 2])
PATHS = [f"{index}.jpg" for index in range(6)]


class Inner(Objective):
    """An objective whose loss has a memory."""

    def __init__(self):
        super().__init__()
        self.loss = SimpleNamespace(memory=PrototypeMemory())
        self.stepped = 0

    def forward(self, batch):
        return Step({"pcl": torch.ones(())}, {}, len(batch.pids))

    def after_step(self):
        self.stepped += 1


def objective_of(*clusterings, fewest=2, pids=PIDS):
    """An objective that finds these labels, one list after the other."""
    found = iter(clusterings)
    images = FeatureSet(FEATURES, pids, torch.zeros(6, dtype=torch.long), PATHS)
    clusters = Clusters(lambda features: torch.tensor(next(found)), count=6, fewest=fewest)
    inner = Inner()
    return Refreshed(inner, lambda: images, [clusters, Prototypes(inner.loss.memory)])


def labels(objective):
    return objective.parts[0].labels.tolist()


def told(objective):
    return dict(zip(("clusters", "outliers", "nmi", "ari"), objective.parts[0].summary.tolist(), strict=True))


def test_clusters_become_labels_and_prototypes(caplog):
    objective = objective_of([0, 0, 1, 1, -1, -1])
    objective.eval()
    with caplog.at_level(logging.INFO):
        objective.begin_epoch(3)
    assert labels(objective) == [0, 0, 1, 1, -1, -1] and objective.training
    prototypes = objective.objective.loss.memory.prototypes
    assert torch.allclose(prototypes, torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]) / 2**0.5)
    assert told(objective) == {"clusters": 2, "outliers": 2, "nmi": 1, "ari": 1}
    assert caplog.messages == [
        "Epoch 3: 2 clusters, 2 outliers of 6 images; agreement with the identities: NMI 1.000, ARI 1.000",
        "Memory has 2 classes.",
        "Create memory bank with shape = torch.Size([2, 6])",
    ]
    step = objective(SimpleNamespace(pids=PIDS))
    assert {name: float(value) for name, value in step.report.items()} == told(objective)
    objective.after_step()
    assert objective.objective.stepped == 1


def test_without_identities_there_is_no_agreement(caplog):
    objective = objective_of([0, 0, 1, 1, -1, -1], pids=torch.full((6,), -1))
    with caplog.at_level(logging.INFO):
        objective.begin_epoch(1)
    assert caplog.messages[0] == "Epoch 1: 2 clusters, 2 outliers of 6 images"
    assert all(math.isnan(told(objective)[name]) for name in ("nmi", "ari"))


@pytest.mark.parametrize("few", [[0] * 6, [-1] * 6])
def test_too_few_clusters_leave_those_before(caplog, few):
    objective = objective_of([0, 0, 1, 1, 2, -1], few, [1, 1, 0, 0, 0, 0])
    objective.begin_epoch(1)
    with caplog.at_level(logging.WARNING):
        objective.begin_epoch(2)
    assert labels(objective) == [0, 0, 1, 1, 2, -1]
    assert len(objective.objective.loss.memory.prototypes) == 3
    assert told(objective)["clusters"] == max(few) + 1
    assert caplog.messages == [
        f"Epoch 2 has {max(few) + 1} clusters; needed: 2 or more, as many as a batch has identities; the "
        "clusters before stay. Change eps or min_samples of the clustering, or make batches smaller"
    ]
    objective.begin_epoch(3)
    assert labels(objective) == [1, 1, 0, 0, 0, 0]


def test_without_clusters_an_epoch_has_no_batch(caplog):
    objective = objective_of([0] * 6, [0, 0, 0, 1, 1, 1])
    told_pids, epochs = [], []

    class Loader(list):
        batch_sampler = SimpleNamespace(set_epoch=lambda epoch, start: epochs.append((epoch, start)))

    batch = SimpleNamespace(keys=["4.jpg", "0.jpg"], replace=lambda pids: pids)
    order = SimpleNamespace(set_pids=told_pids.append)
    batches = ClusterBatches(Loader([batch]), order, objective.parts[0], PATHS)
    assert len(batches) == 0 and list(batches) == []
    with caplog.at_level(logging.WARNING):
        objective.begin_epoch(1)
    assert "nothing is learned in it" in caplog.messages[0]
    batches.set_epoch(1)
    assert len(batches) == 0 and list(batches) == [] and not told_pids and not epochs
    objective.begin_epoch(2)
    batches.set_epoch(2, 5)
    assert (len(batches), told_pids, epochs) == (1, [[0, 0, 0, 1, 1, 1]], [(2, 5)])
    assert [pids.tolist() for pids in batches] == [[1, 0]]


def test_fewer_clusters_than_a_batch_has_identities_are_too_few():
    objective = objective_of([0, 0, 1, 1, 2, 2], fewest=4)
    objective.begin_epoch(1)
    assert labels(objective) == [-1] * 6
