import time
from collections import Counter

import numpy as np
import pytest

from datasets import RandomIdentitySampler

# 12 identities with 1 to 12 images.
PIDS = [pid for pid in range(12) for _ in range(pid + 1)]


def batches(sampler, size):
    order = list(sampler)
    assert len(order) % size == 0
    return [order[i : i + size] for i in range(0, len(order), size)]


def test_each_batch_has_p_different_identities_with_k_images_each():
    sampler = RandomIdentitySampler(PIDS, 12, 4, seed=1)
    drawn = batches(sampler, 12)
    assert drawn
    for batch in drawn:
        groups = [[PIDS[i] for i in batch[j : j + 4]] for j in range(0, 12, 4)]
        assert all(len(set(group)) == 1 for group in groups)
        assert len({group[0] for group in groups}) == 3


def test_an_image_comes_once_unless_its_identity_has_fewer_than_k():
    for epoch in range(5):
        sampler = RandomIdentitySampler(PIDS, 12, 4, seed=1)
        sampler.set_epoch(epoch)
        counts = Counter(sampler)
        assert all(PIDS[i] < 3 for i, count in counts.items() if count > 1)
        groups = Counter(PIDS[i] for i in counts.elements())
        assert all(groups[pid] <= max(pid + 1, 4) // 4 * 4 for pid in groups)


def test_a_pass_ends_only_when_fewer_than_p_identities_are_left():
    for epoch in range(20):
        sampler = RandomIdentitySampler(PIDS, 12, 4, seed=1)
        sampler.set_epoch(epoch)
        used = Counter(PIDS[i] for i in sampler)
        left = [pid for pid in range(12) if used[pid] < max(pid + 1, 4) // 4 * 4]
        assert len(left) < 3


def test_reported_length_is_the_published_formula():
    expected = sum(max(n, 4) - max(n, 4) % 4 for n in range(1, 13))
    sampler = RandomIdentitySampler(PIDS, 12, 4, seed=1)
    assert len(sampler) == expected == 4 * 7 + 8 * 4 + 12
    assert len(list(sampler)) <= expected


def test_order_depends_on_seed_and_epoch_alone():
    sampler = RandomIdentitySampler(PIDS, 12, 4, seed=1)
    first = list(sampler)
    assert list(sampler) == first
    np.random.seed(123)
    assert list(RandomIdentitySampler(PIDS, 12, 4, seed=1)) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(RandomIdentitySampler(PIDS, 12, 4, seed=2)) != first


def test_all_identities_are_drawn_equally_often():
    pids = [pid for pid in range(10) for _ in range(4)]
    counts = Counter()
    for epoch in range(300):
        sampler = RandomIdentitySampler(pids, 12, 4, seed=5)
        sampler.set_epoch(epoch)
        counts.update(pids[i] for i in list(sampler)[:12])
    # 300 epochs x 3 of 10 identities x 4 images: 360 each, standard deviation 32
    assert all(abs(counts[pid] - 360) < 150 for pid in range(10))


def test_thirteen_thousand_identities_take_seconds_at_most():
    pids = np.random.default_rng(0).integers(0, 13_164, 113_000).tolist()
    start = time.perf_counter()
    order = list(RandomIdentitySampler(pids, 64, 4, seed=0))
    assert len(order) > 90_000
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PIDS, 10, 4, 0), "batch_size is 10; allowed with 4 images of an identity: positive multiples"),
        ((PIDS, 0, 4, 0), "batch_size is 0; allowed with 4"),
        ((PIDS, 8, 0, 0), "batch_size is 8; allowed with 0"),
        ((PIDS, 64, 4, 0), "batch_size is 64; allowed with 12 identities and 4 images of each: up to 48"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomIdentitySampler(*arguments)
