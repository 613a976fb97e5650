from collections import Counter

import numpy as np
import pytest
import torch

from datasets.sampling.epoch_batches import EpochBatches
from datasets.sampling.pairs import PairSampler


def draws(epoch=1, *, pairs=23, batch=5, seed=3, **mix):
    sampler = PairSampler(pairs, batch, seed, **mix)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize(("pairs", "count"), [(23, 4), (20, 4), (5, 1)])
def test_an_epoch_is_the_full_batches_of_different_pairs(pairs, count):
    sampler = PairSampler(pairs, 5, 0)
    indices = [draw.index for draw in sampler]
    assert len(indices) == len(set(indices)) == len(sampler) == 5 * count
    assert set(indices) <= set(range(pairs))
    assert len(EpochBatches(sampler, 5)) == count


def test_order_and_seeds_depend_on_seed_and_epoch_alone():
    first = draws()
    np.random.seed(1)
    torch.manual_seed(1)
    assert draws() == first
    assert {draw.mixed for draw in first} == {None}
    for other in (draws(2), draws(seed=4)):
        assert [draw.index for draw in other] != [draw.index for draw in first]
        assert not {draw.seed for draw in other} & {draw.seed for draw in first}


def test_seeds_are_int64_and_differ():
    seeds = [draw.seed for epoch in range(3) for draw in draws(epoch, pairs=1000, batch=1000)]
    assert len(set(seeds)) == 3000 and all(type(seed) is int for seed in seeds)
    assert torch.tensor(seeds).dtype == torch.int64
    assert abs(np.mean(seeds) / 2**63 - 0.5) < 0.04  # standard deviation 0.005


def test_every_pair_is_as_likely_in_an_epoch():
    counts = Counter(draw.index for epoch in range(2000) for draw in draws(epoch, pairs=7, batch=5))
    assert all(abs(count / 2000 - 5 / 7) < 0.07 for count in counts.values())  # standard deviation 0.01
    assert len(counts) == 7


@pytest.mark.parametrize(("share", "count"), [(0.5, 5), (0.39, 3), (0.0, 0)])
def test_mixed_batches_mix_their_first_pairs_with_later_ones(share, count):
    plain = draws(pairs=40, batch=10)
    mixed = draws(pairs=40, batch=10, mix_probability=1.0, mix_share=share)
    assert [draw._replace(mixed=None) for draw in mixed] == plain
    for first in range(0, 40, 10):
        batch = plain[first : first + 10]
        partners = [draw.mixed for draw in mixed[first : first + 10]]
        assert partners == batch[count : 2 * count] + [None] * (10 - count)


def test_batches_are_mixed_with_the_probability():
    mixed = [
        draw.mixed is not None for draw in draws(pairs=4000, batch=2, mix_probability=0.3, mix_share=0.5)
    ]
    assert abs(np.mean(mixed[::2]) - 0.3) < 0.06  # standard deviation 0.01
    assert not any(mixed[1::2])


def test_fewer_pairs_than_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"^batch_size is 5; .* 4 training pairs: up to 4$"):
        PairSampler(4, 5, 0)
