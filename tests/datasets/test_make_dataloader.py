import logging
import os
from collections import Counter

import pytest
import torch
from torch import distributed
from yacs.config import CfgNode

from datasets import ImageRecord, ReIDDataset, Trial, make_dataloader


@pytest.fixture
def dataset(tmp_path, save_image):
    """4 training identities with 3, 4, 5 and 6 images; 2 trials over 5 images."""

    def record(split, pid, i):
        path = save_image(tmp_path / split / f"{pid}_{i}.png", colour=20 * pid + i)
        return ImageRecord(str(path), pid, i % 2, 0)

    train = [record("train", pid, i) for pid in range(4) for i in range(3 + pid)]
    test = [record("test", 1 + i % 2, i) for i in range(5)]
    return ReIDDataset("x", train, [Trial(test[:2], test[2:]), Trial(test[1:3], test[3:])], "person")


def test_train_batches_hold_whole_identities(data_cfg, dataset):
    train = make_dataloader(data_cfg, dataset).train
    found = list(train)
    assert found
    for batch in found:
        assert batch.images.shape == (4, 3, 32, 16)
        assert batch.images.dtype == torch.float32
        assert sorted(Counter(batch.pids.tolist()).values()) == [2, 2]
        by_path = {record.path: record for record in dataset.train}
        assert batch.camids.tolist() == [by_path[path].camid for path in batch.paths]


@pytest.mark.parametrize("sampler", ["softmax", "softmax_triplet"])
def test_train_order_is_reproducible_per_epoch(data_cfg, dataset, sampler):
    data_cfg.DATALOADER.SAMPLER = sampler

    def order(epoch):
        train = make_dataloader(data_cfg, dataset).train
        train.sampler.set_epoch(epoch)
        return [path for batch in train for path in batch.paths]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_plain_shuffle_gives_full_batches_only(data_cfg, dataset):
    data_cfg.DATALOADER.SAMPLER = "softmax"
    data_cfg.SOLVER.STAGE2.IMS_PER_BATCH = 17  # of 18 images: the last one would be alone
    paths = [batch.paths for batch in make_dataloader(data_cfg, dataset).train]
    assert [len(batch) for batch in paths] == [17]
    assert len(set(paths[0])) == 17


def test_cache_has_every_training_image_once_without_augmentation(data_cfg, dataset):
    data_cfg.INPUT.RE_PROB = 1.0
    cache = make_dataloader(data_cfg, dataset).cache
    first, second = list(cache), list(cache)
    assert [len(batch.paths) for batch in first] == [5, 5, 5, 3]
    assert sorted(p for b in first for p in b.paths) == sorted(r.path for r in dataset.train)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))
    assert first[0].images.shape == (5, 3, 32, 16)


def test_test_loader_has_every_test_image_once_at_the_size_asked_for(data_cfg, dataset):
    test = make_dataloader(data_cfg, dataset).test
    assert [batch.images.shape[0] for batch in test] == [3, 2]
    assert [p for batch in test for p in batch.paths] == [r.path for r in dataset.test_records()]
    assert next(iter(test)).images.shape[2:] == (32, 16)
    other = make_dataloader(data_cfg, dataset, size=(24, 40)).test
    assert next(iter(other)).images.shape[2:] == (24, 40)


def test_one_stage_tree_has_its_batch_size_under_solver_and_no_cache(data_cfg, dataset):
    data_cfg.SOLVER = CfgNode({"SEED": 7, "IMS_PER_BATCH": 6})
    loaders = make_dataloader(data_cfg, dataset)
    assert loaders.cache is None
    assert {len(batch.paths) for batch in loaders.train} == {6}


def test_without_training_split_only_the_test_loader_exists(data_cfg, dataset):
    loaders = make_dataloader(data_cfg, ReIDDataset("x", [], dataset.trials, "person"))
    assert (loaders.train, loaders.cache) == (None, None)
    assert len(loaders.test) == 2


def test_processes_share_each_batch(data_cfg, dataset, monkeypatch):
    whole = [batch.paths for batch in make_dataloader(data_cfg, dataset).train]
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        parts.append([batch.paths for batch in make_dataloader(data_cfg, dataset).train])
    assert [left + right for left, right in zip(*parts, strict=True)] == whole
    data_cfg.SOLVER.STAGE2.IMS_PER_BATCH = 5
    with pytest.raises(ValueError, match="IMS_PER_BATCH 5 with 2 processes, allowed are multiples of 2"):
        make_dataloader(data_cfg, dataset)


def test_workers_are_capped_persistent_and_reproducible(data_cfg, dataset, monkeypatch, caplog):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    data_cfg.DATALOADER.NUM_WORKERS = 8
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        loaders = make_dataloader(data_cfg, dataset)
    assert "DATALOADER.NUM_WORKERS 8 is capped to the 1 processors here" in caplog.text
    assert [loader.num_workers for loader in loaders] == [1, 1, 1]
    assert [loader.persistent_workers for loader in loaders] == [True, False, True]
    assert [loader.pin_memory for loader in loaders] == [torch.cuda.is_available()] * 3
    first = next(iter(loaders.train))
    torch.rand(5)  # the augmentation follows the loader's own generator
    again = next(iter(make_dataloader(data_cfg, dataset).train))
    assert torch.equal(first.images, again.images)


def test_a_corrupt_image_stops_the_loader_with_its_path(data_cfg, dataset):
    path = dataset.query[0].path
    with open(path, "rb+") as file:
        file.truncate(60)
    with pytest.raises(ValueError, match=f"{path}: cannot be read as an image"):
        list(make_dataloader(data_cfg, dataset).test)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["DATALOADER.SAMPLER", "triplet"], "SAMPLER 'triplet', allowed are softmax, softmax_triplet"),
        (
            ["SOLVER.STAGE2.IMS_PER_BATCH", 10],
            "4 identities in the training split, batch size 10 .* at least 5",
        ),
        (["SOLVER.STAGE2.IMS_PER_BATCH", 5], "batch size 5 with 2 images per identity"),
        (
            ["DATALOADER.SAMPLER", "softmax", "SOLVER.STAGE2.IMS_PER_BATCH", 19],
            "18 training images, IMS_PER_BATCH 19 needs at least 19",
        ),
    ],
)
def test_errors(data_cfg, dataset, options, message):
    data_cfg.merge_from_list(options)
    with pytest.raises(ValueError, match=message):
        make_dataloader(data_cfg, dataset)
