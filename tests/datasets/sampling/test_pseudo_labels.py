from collections import Counter

import pytest

from datasets import RandomIdentitySampler, make_dataloader
from utils.labels import NO_PID

CLUSTERS = [0, 1, -1, 2, 0, 1, 2, -1, 0, 1, 2, 3, 3, -1]


@pytest.fixture
def clusters_cfg(data_cfg):
    data_cfg.SOLVER.STAGE2.ITERS = 12
    return data_cfg


def test_passes_are_drawn_from_the_labels_that_were_set():
    sampler = RandomIdentitySampler(range(14), 6, 2, seed=1)
    sampler.set_pids(CLUSTERS)
    for epoch in range(10):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert order and len(order) % 6 == 0
        for start in range(0, len(order), 6):
            labels = [CLUSTERS[index] for index in order[start : start + 6]]
            assert min(labels) >= 0 and labels[::2] == labels[1::2] and len(set(labels)) == 3
    assert len(sampler) == 2 * 4


def test_the_order_depends_on_seed_epoch_and_labels_alone():
    sampler = RandomIdentitySampler(range(14), 6, 2, seed=1)
    singles = list(sampler)
    sampler.set_pids([0, 1, 2, 3] * 3 + [-1, -1])
    list(sampler)
    sampler.set_pids(CLUSTERS)
    assert list(sampler) == list(RandomIdentitySampler(CLUSTERS, 6, 2, seed=1))
    sampler.set_pids(range(14))
    assert list(sampler) == singles


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, -1, -1], [-1] * 6])
def test_too_few_labels_are_refused_and_the_former_ones_stay(labels):
    sampler = RandomIdentitySampler([0, 1, 2, 0, 1, 2], 6, 2, seed=1)
    before = list(sampler)
    message = rf"^batch_size is 6; allowed with {len({*labels} - {-1})} identities and 2 images of each"
    with pytest.raises(ValueError, match=message):
        sampler.set_pids(labels)
    assert list(sampler) == before


def test_labels_of_the_order_are_those_of_the_batches(data_cfg, dataset):
    loaders = make_dataloader(data_cfg, dataset)
    by_path = {record.path: index for index, record in enumerate(dataset.train)}
    labels = [index % 3 for index in range(len(dataset.train))]
    loaders.order.set_pids(labels)
    for batch in loaders.train:
        drawn = [labels[by_path[path]] for path in batch.paths]
        assert sorted(Counter(drawn).values()) == [2, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_new_labels_reach_a_loader_with_workers_in_the_next_epoch(clusters_cfg, dataset, workers):
    clusters_cfg.DATALOADER.NUM_WORKERS = workers
    loaders = make_dataloader(clusters_cfg, dataset, labelled=False)
    paths = [record.path for record in dataset.train]
    for epoch, kept in ((1, set(paths[:5])), (2, set(paths[9:]))):
        loaders.order.set_pids([i % 2 if path in kept else -1 for i, path in enumerate(paths)])
        loaders.train.batch_sampler.set_epoch(epoch)
        batches = [batch.paths for batch in loaders.train]
        assert len(batches) == 12
        assert {path for batch in batches for path in batch} == kept


def test_no_true_identity_decides_before_the_first_clustering(clusters_cfg, dataset):
    order = list(make_dataloader(clusters_cfg, dataset, labelled=False).train.batch_sampler)
    for batch in order:
        indices = [draw.index for draw in batch]
        assert indices[::2] == indices[1::2] and len(set(indices)) == 2
    for unknown in (True, False):
        train = [record._replace(pid=NO_PID if unknown else 0) for record in dataset.train]
        dataset.train[:] = train
        assert list(make_dataloader(clusters_cfg, dataset, labelled=False).train.batch_sampler) == order


def test_as_many_images_as_a_batch_has_clusters_are_needed(clusters_cfg, dataset):
    clusters_cfg.SOLVER.STAGE2.IMS_PER_BATCH = 36
    assert len(make_dataloader(clusters_cfg, dataset, labelled=False).train) == 12
    clusters_cfg.SOLVER.STAGE2.IMS_PER_BATCH = 38
    message = "^IMS_PER_BATCH is 38; allowed with 18 identities and 2 images of each: up to 36$"
    with pytest.raises(ValueError, match=message):
        make_dataloader(clusters_cfg, dataset, labelled=False)
