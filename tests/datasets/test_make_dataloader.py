import logging
import os
from collections import Counter

import pytest
import torch
from torch import distributed
from yacs.config import CfgNode

from datasets import (
    ImageBatch,
    ReIDDataset,
    decode_image,
    make_dataloader,
    num_workers,
    read_image,
)
from datasets import test_transform as plain_transform
from datasets.pixels.augmentation import augment
from datasets.pixels.resize import resize_bicubic
from utils.seed import seed_everything


def test_train_batches_hold_whole_identities(data_cfg, dataset):
    train = make_dataloader(data_cfg, dataset).train
    found = list(train)
    assert found
    for batch in found:
        assert batch.images.shape == (4, 3, 32, 16)
        assert batch.images.dtype == torch.uint8
        assert batch.to("cpu").images.dtype == torch.float32
        assert sorted(Counter(batch.pids.tolist()).values()) == [2, 2]
        by_path = {record.path: record for record in dataset.train}
        assert batch.camids.tolist() == [by_path[path].camid for path in batch.paths]


@pytest.mark.parametrize("sampler", ["softmax", "softmax_triplet"])
def test_train_order_is_reproducible_per_epoch(data_cfg, dataset, sampler):
    data_cfg.DATALOADER.SAMPLER = sampler

    def order(epoch):
        train = make_dataloader(data_cfg, dataset).train
        train.batch_sampler.set_epoch(epoch)
        return [path for batch in train for path in batch.paths]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_plain_shuffle_gives_full_batches_only(data_cfg, dataset):
    data_cfg.DATALOADER.SAMPLER = "softmax"
    data_cfg.SOLVER.STAGE2.IMS_PER_BATCH = 17  # of 18 images: the last one would be alone
    paths = [batch.paths for batch in make_dataloader(data_cfg, dataset).train]
    assert [len(batch) for batch in paths] == [17]
    assert len(set(paths[0])) == 17


def test_test_loader_has_every_test_image_once_at_the_size_asked_for(data_cfg, dataset):
    test = make_dataloader(data_cfg, dataset).test
    assert [batch.images.shape[0] for batch in test] == [3, 2]
    assert [p for batch in test for p in batch.paths] == [r.path for r in dataset.test_records()]
    assert next(iter(test)).images.shape[2:] == (32, 16)
    other = make_dataloader(data_cfg, dataset, size=(24, 40)).test
    assert next(iter(other)).images.shape[2:] == (24, 40)


def test_one_stage_tree_has_its_batch_size_under_solver(data_cfg, dataset):
    data_cfg.SOLVER = CfgNode({"SEED": 7, "IMS_PER_BATCH": 6, "ITERS": -1})
    loaders = make_dataloader(data_cfg, dataset)
    assert {len(batch.paths) for batch in loaders.train} == {6}


def test_without_training_split_only_the_test_loader_exists(data_cfg, dataset):
    loaders = make_dataloader(data_cfg, ReIDDataset("x", [], dataset.trials, "person"))
    assert (loaders.train, loaders.plain, loaders.order) == (None, None, None)
    assert len(loaders.test) == 2


@pytest.fixture
def by_processes(data_cfg, dataset, monkeypatch):
    """by_processes(2) -> the loaders of each of two processes of a run."""

    def build(count):
        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(distributed, "get_world_size", lambda: count)
        for rank in range(count):
            monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
            yield make_dataloader(data_cfg, dataset)

    return build


@pytest.mark.parametrize("sampler", ["softmax", "softmax_triplet"])
@pytest.mark.parametrize("workers", [0, 2])
def test_processes_share_each_batch(data_cfg, dataset, by_processes, sampler, workers):
    data_cfg.DATALOADER.SAMPLER, data_cfg.DATALOADER.NUM_WORKERS = sampler, workers
    whole = [batch.to("cpu") for batch in make_dataloader(data_cfg, dataset).train]
    parts = [[batch.to("cpu") for batch in loaders.train] for loaders in by_processes(2)]
    assert len(whole) > 2
    for batch, *halves in zip(whole, *parts, strict=True):
        assert [len(half.paths) for half in halves] == [2, 2]
        joined = map(torch.cat, zip(*map(tensors, halves), strict=True))
        assert same(batch, ImageBatch(*joined, halves[0].paths + halves[1].paths))


def test_processes_cannot_share_any_batch(data_cfg, by_processes):
    data_cfg.SOLVER.STAGE2.IMS_PER_BATCH = 6
    message = "IMS_PER_BATCH is 6; allowed with 2 processes and 2 images of an identity: multiples of 4"
    with pytest.raises(ValueError, match=f"^{message}$"):
        list(by_processes(2))
    data_cfg.DATALOADER.SAMPLER, data_cfg.SOLVER.STAGE2.IMS_PER_BATCH = "softmax", 5
    with pytest.raises(ValueError, match=r"^IMS_PER_BATCH is 5; allowed with 2 processes: multiples of 2$"):
        list(by_processes(2))


@pytest.mark.parametrize("count", [2, 4, 8])
def test_processes_share_the_records_of_plain_pass_and_test(data_cfg, dataset, by_processes, count):
    data_cfg.SOLVER.STAGE2.IMS_PER_BATCH = 16
    data_cfg.DATALOADER.SAMPLER = "softmax"
    parts = list(by_processes(count))
    for name, records in (("plain", dataset.train), ("test", dataset.test_records())):
        paths = [[p for batch in getattr(loaders, name) for p in batch.paths] for loaders in parts]
        assert [path for part in paths for path in part] == [record.path for record in records]
        assert max(map(len, paths)) - min(map(len, paths)) <= 1


def test_flip_crop_and_erasing_are_as_configured(data_cfg, dataset):
    data_cfg.INPUT.PROB, data_cfg.INPUT.PADDING, data_cfg.INPUT.RE_PROB = 1.0, 3, 0.25
    loaders = make_dataloader(data_cfg, dataset)
    draws = loaders.train.batch_sampler.draws
    assert (draws.flip_prob, draws.padding) == (1.0, 3)
    assert loaders.train.dataset.padding == 3
    assert [next(iter(loader)).pixels.erase_prob for loader in passes(loaders)] == [0.25, 0, 0]


def test_train_images_are_the_published_steps_of_the_drawn_numbers(data_cfg, dataset):
    train = make_dataloader(data_cfg, dataset).train
    draws = next(iter(train.batch_sampler))
    batch = next(iter(train))
    assert batch.seeds == [draw.seed for draw in draws]
    for image, draw in zip(batch.images, draws, strict=True):
        resized = resize_bicubic(decode_image(dataset.train[draw.index].path), (32, 16))
        assert torch.equal(image, augment(resized, draw, 2))
    assert len({draw[1:] for draw in draws}) > 1


def test_test_images_are_those_of_the_test_transform(data_cfg, dataset):
    prepare = plain_transform((32, 16), [0.5] * 3, [0.5] * 3)
    loaders = make_dataloader(data_cfg, dataset)
    for batch in (*loaders.plain, *loaders.test):
        wanted = torch.stack([prepare(read_image(path)) for path in batch.paths])
        assert torch.equal(batch.to("cpu").images, wanted)


def test_neither_workers_nor_global_generators_change_the_batches(data_cfg, dataset):
    def batches(workers):
        data_cfg.DATALOADER.NUM_WORKERS = workers
        loaders = make_dataloader(data_cfg, dataset)
        for epoch in (1, 2):
            seed_everything(workers + 5)
            loaders.train.batch_sampler.set_epoch(epoch)
            yield from (batch.to("cpu") for batch in loaders.train)
        yield from (batch.to("cpu") for batch in (*loaders.plain, *loaders.test))

    first = list(batches(0))
    for workers in (0, 1, 2):
        assert all(same(a, b) for a, b in zip(first, batches(workers), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_begin_within(data_cfg, dataset, workers):
    data_cfg.DATALOADER.NUM_WORKERS = workers
    train = make_dataloader(data_cfg, dataset).train
    train.batch_sampler.set_epoch(3)
    whole = [batch.to("cpu") for batch in train]
    train.batch_sampler.set_epoch(3, start=2)
    assert len(whole) > 2
    assert all(same(a, b.to("cpu")) for a, b in zip(whole[2:], train, strict=True))


def passes(loaders):
    return loaders.train, loaders.plain, loaders.test


def tensors(batch):
    return batch.images, batch.pids, batch.camids, batch.viewids


def same(left, right):
    return left.paths == right.paths and all(map(torch.equal, tensors(left), tensors(right)))


def test_workers_are_capped_persistent_and_reproducible(data_cfg, dataset, monkeypatch, caplog):
    set_processors(monkeypatch, 1)
    data_cfg.DATALOADER.NUM_WORKERS = 8
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        loaders = make_dataloader(data_cfg, dataset)
    assert "DATALOADER.NUM_WORKERS 8 is capped to the 1 processors here" in caplog.text
    assert [loader.num_workers for loader in passes(loaders)] == [1, 1, 1]
    assert [loader.persistent_workers for loader in passes(loaders)] == [True, False, True]
    assert [loader.pin_memory for loader in passes(loaders)] == [torch.cuda.is_available()] * 3
    state = torch.get_rng_state()
    first = next(iter(loaders.train)).to("cpu")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    again = next(iter(make_dataloader(data_cfg, dataset).train)).to("cpu")
    assert same(first, again)


def set_processors(monkeypatch, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(count)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 99)


@pytest.mark.parametrize(
    ("processors", "processes", "workers"), [(1, 1, 1), (6, 1, 6), (64, 1, 16), (64, 8, 8), (6, 8, 1)]
)
def test_minus_one_worker_is_the_share_of_the_processors(processors, processes, workers, monkeypatch, caplog):
    set_processors(monkeypatch, processors)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        assert num_workers(-1) == workers
    assert not caplog.text
    assert num_workers(0) == 0
    assert num_workers(200) == processors


def test_processors_where_no_affinity_is_known(monkeypatch):
    set_processors(monkeypatch, 1)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert num_workers(-1) == 16 and num_workers(200) == 99


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_images_give_the_same_batches_without_the_files(data_cfg, dataset, workers):
    plain = list(make_dataloader(data_cfg, dataset).train)
    data_cfg.DATALOADER.NUM_WORKERS, data_cfg.DATALOADER.CACHE = workers, True
    train = make_dataloader(data_cfg, dataset).train
    for record in dataset.train:
        os.remove(record.path)
    assert all(same(a, b) for a, b in zip(plain, train, strict=True))
    assert train.dataset.cached.shape == (18, 3, 32, 16)


def test_a_corrupt_image_stops_the_loader_with_its_path(data_cfg, dataset):
    path = dataset.query[0].path
    with open(path, "rb+") as file:
        file.truncate(60)
    with pytest.raises(ValueError, match=f"{path}: cannot be read as an image"):
        list(make_dataloader(data_cfg, dataset).test)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["DATALOADER.SAMPLER", "triplet"],
            "SAMPLER is 'triplet'; allowed: softmax, softmax_triplet, graph$",
        ),
        (
            ["SOLVER.STAGE2.IMS_PER_BATCH", 10],
            "^IMS_PER_BATCH is 10; allowed with 4 identities and 2 images of each: up to 8$",
        ),
        (
            ["SOLVER.STAGE2.IMS_PER_BATCH", 5],
            "^IMS_PER_BATCH is 5; allowed with 2 images of an identity",
        ),
        (
            ["DATALOADER.SAMPLER", "softmax", "SOLVER.STAGE2.IMS_PER_BATCH", 19],
            "^IMS_PER_BATCH is 19; allowed with 18 training images: up to 18$",
        ),
    ],
)
def test_errors(data_cfg, dataset, options, message):
    data_cfg.merge_from_list(options)
    with pytest.raises(ValueError, match=message):
        make_dataloader(data_cfg, dataset)
