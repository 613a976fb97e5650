import random
from itertools import chain

import numpy as np
import pytest
import torch

from datasets import AugmentedSampler, RandomIdentitySampler
from datasets.sampling.epoch_batches import EpochBatches

# 12 identities with 1 to 12 images.
PIDS = [pid for pid in range(12) for _ in range(pid + 1)]


def identity_batches(rank=0, world_size=1, *, size=16):
    order = RandomIdentitySampler(PIDS, size, 4, seed=3)
    draws = AugmentedSampler(order, 0.5, 4, seed=3)
    return EpochBatches(draws, size, group=4, rank=rank, world_size=world_size)


def plain_batches(images, size, **options):
    return EpochBatches(AugmentedSampler(range(images), 0.5, 4, seed=3), size, **options)


def test_batches_are_the_draws_in_their_order():
    batches = identity_batches()
    found = list(batches)
    assert {len(batch) for batch in found} == {16}
    assert [draw for batch in found for draw in batch] == list(batches.draws)
    for batch in found:
        pids = [PIDS[draw.index] for draw in batch]
        assert len(set(pids)) == 4 and all(len(set(pids[i : i + 4])) == 1 for i in range(0, 16, 4))


@pytest.mark.parametrize("epoch", [0, 1, 9])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_take_disjoint_whole_parts_of_each_batch(processes, epoch):
    whole = identity_batches()
    parts = [identity_batches(rank, processes) for rank in range(processes)]
    for batches in (whole, *parts):
        batches.set_epoch(epoch)
    shares = [list(part) for part in parts]
    assert list(whole)
    for batch, *own in zip(whole, *shares, strict=True):
        assert list(chain(*own)) == batch
        assert {len(share) for share in own} == {16 // processes}
        pids = [{PIDS[draw.index] for draw in share} for share in own]
        assert [len(some) for some in pids] == [4 // processes] * processes
        assert len(set.union(*pids)) == 4


def test_plain_batches_are_shared_too():
    whole = list(plain_batches(23, 6))
    shares = [list(plain_batches(23, 6, rank=rank, world_size=3)) for rank in range(3)]
    assert [list(chain(*own)) for own in zip(*shares, strict=True)] == whole


def test_a_remainder_is_left_out():
    assert [[draw.index for draw in batch] for batch in plain_batches(7, 3)] == [[0, 1, 2], [3, 4, 5]]
    assert list(plain_batches(2, 3)) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_a_pass_can_begin_with_any_batch(rank):
    batches = identity_batches(rank, 2)
    for epoch in (0, 5):
        batches.set_epoch(epoch)
        whole = list(batches)
        assert len(whole) > 2
        for start in range(len(whole) + 2):
            batches.set_epoch(epoch, start)
            assert list(batches) == whole[start:]
        batches.set_epoch(epoch)
        assert list(batches) == whole


def test_epochs_differ_and_depend_on_nothing_global():
    batches = identity_batches()
    batches.set_epoch(1)
    first = list(batches)
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    assert list(batches) == first
    batches.set_epoch(2)
    assert list(batches) != first


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_number_of_batches_is_the_published_one(processes):
    reported = sum(max(n, 4) - max(n, 4) % 4 for n in range(1, 13))
    batches = identity_batches(processes - 1, processes)
    assert len(batches) == -(-reported // 16) == 5
    assert len(list(batches)) <= 5
    batches.set_epoch(0, start=3)
    assert len(batches) == 5
    counts = [len(plain_batches(18, size, world_size=size)) for size in (1, 3, 4, 18, 19)]
    assert counts == [18, 6, 5, 1, 1]


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (6, {"world_size": 4}, "batch_size is 6; allowed with 4 processes: multiples of 4"),
        (0, {}, "batch_size is 0; allowed with 1 processes: multiples of 1"),
        (
            12,
            {"group": 4, "world_size": 2},
            "batch_size is 12; allowed with 2 processes and 4 images of an identity: multiples of 8",
        ),
        (8, {"rank": 2, "world_size": 2}, "rank is 2; allowed: 0 to 1"),
        (8, {"rank": -1}, "rank is -1; allowed: 0 to 0"),
    ],
)
def test_errors(size, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        plain_batches(20, size, **options)
