from itertools import chain

import pytest
from torch.utils.data import DistributedSampler

from datasets import AugmentedSampler, RandomIdentitySampler, make_dataloader
from datasets.sampling.epoch_batches import EpochBatches
from datasets.sampling.repeated import RepeatedSampler

# 9 identities with 1 to 9 images.
PIDS = [pid for pid in range(9) for _ in range(pid + 1)]
ITERS = 17


def identities():
    return RandomIdentitySampler(PIDS, 8, 2, seed=3)


def shuffled():
    return DistributedSampler(range(20), 1, 0, shuffle=True, seed=3)


def fixed_batches(order, rank=0, world_size=1, *, group=1):
    draws = AugmentedSampler(RepeatedSampler(order, 8 * ITERS), 0.5, 4, seed=3)
    return EpochBatches(draws, 8, group=group, rank=rank, world_size=world_size)


ORDERS = pytest.mark.parametrize(("order", "group"), [(identities, 2), (shuffled, 1)])


@ORDERS
@pytest.mark.parametrize("epoch", [0, 6])
def test_an_epoch_has_the_batches_asked_for_whatever_a_pass_has(order, group, epoch):
    batches = fixed_batches(order(), group=group)
    batches.set_epoch(epoch)
    assert len(list(batches)) == len(batches) == ITERS
    assert {len(batch) for batch in batches} == {8}


def test_batches_of_all_passes_have_distinct_identities():
    for batch in fixed_batches(identities(), group=2):
        pids = [PIDS[draw.index] for draw in batch]
        assert len(set(pids)) == 4
        assert pids[::2] == pids[1::2]


@pytest.mark.parametrize("order", [identities, shuffled])
def test_a_pass_depends_on_epoch_and_number_alone(order):
    repeated, alone = RepeatedSampler(order(), 100), order()
    for epoch in (4, 0, 4):
        repeated.set_epoch(epoch)
        passes = []
        for number in range(12):
            alone.set_epoch(epoch + number * 1_000_003)
            passes.append(list(alone))
        assert len({tuple(some) for some in passes}) == 12
        assert list(repeated) == list(chain(*passes))[:100]


def test_the_first_pass_is_that_of_an_epoch_of_one_pass():
    order, repeated = identities(), RepeatedSampler(identities(), 200)
    for epoch in range(3):
        order.set_epoch(epoch)
        repeated.set_epoch(epoch)
        assert list(repeated)[: len(list(order))] == list(order)


def test_draws_go_on_over_the_passes():
    draws = [draw.seed for batch in fixed_batches(identities(), group=2) for draw in batch]
    assert len(set(draws)) == 8 * ITERS


@ORDERS
def test_an_epoch_can_begin_with_any_batch(order, group):
    whole = fixed_batches(order(), group=group)
    whole.set_epoch(5)
    wanted = list(whole)
    for start in range(ITERS + 1):
        batches = fixed_batches(order(), group=group)
        list(batches)  # an epoch before
        batches.set_epoch(5, start)
        assert list(batches) == wanted[start:]
        assert len(batches) == ITERS


@ORDERS
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_each_batch(order, group, processes):
    whole = fixed_batches(order(), group=group)
    shares = [fixed_batches(order(), rank, processes, group=group) for rank in range(processes)]
    for batches in (whole, *shares):
        batches.set_epoch(2, 9)
    assert [list(chain(*own)) for own in zip(*shares, strict=True)] == list(whole)


def test_fewer_batches_than_a_pass():
    batches = EpochBatches(AugmentedSampler(RepeatedSampler(identities(), 16), 0.5, 4, seed=3), 8, group=2)
    assert len(list(batches)) == len(batches) == 2


@pytest.mark.parametrize("sampler", ["softmax", "softmax_triplet"])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_takes_the_number_from_its_key(data_cfg, dataset, sampler, workers):
    data_cfg.DATALOADER.SAMPLER, data_cfg.DATALOADER.NUM_WORKERS = sampler, workers
    data_cfg.SOLVER.STAGE2.ITERS = 11
    train = make_dataloader(data_cfg, dataset).train
    train.batch_sampler.set_epoch(3)
    whole = [batch.paths for batch in train]
    assert len(train) == len(whole) == 11
    assert {len(paths) for paths in whole} == {4}
    train.batch_sampler.set_epoch(3, 8)
    assert [batch.paths for batch in train] == whole[8:]
