from collections import Counter

import numpy as np
import pytest
import torch

from datasets import AugmentedSampler, Draw, RandomIdentitySampler
from datasets.pixels.augmentation import augment


def draws(epoch=0, *, indices=range(40), seed=3, flip_prob=0.5, padding=4):
    sampler = AugmentedSampler(indices, flip_prob, padding, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_draws_depend_on_seed_and_epoch_alone():
    first = draws()
    np.random.seed(1)
    torch.manual_seed(1)
    assert draws() == first
    assert draws(1) != first != draws(seed=4)
    assert draws(1) == draws(1)
    assert draws(indices=range(10)) == first[:10]


def test_flips_and_places_are_drawn_evenly():
    drawn = draws(indices=range(20_000), flip_prob=0.3, padding=2)
    assert abs(np.mean([draw.flip for draw in drawn]) - 0.3) < 0.015
    places = Counter((draw.top, draw.left) for draw in drawn)
    assert set(places) == {(top, left) for top in range(5) for left in range(5)}
    assert all(abs(count - 800) < 150 for count in places.values())  # standard deviation 28


def test_each_draw_has_a_seed_of_its_own():
    seeds = [draw.seed for epoch in range(2) for draw in draws(epoch, indices=[7] * 1000)]
    assert len(set(seeds)) == 2000
    assert all(type(seed) is int and 0 <= seed < 2**63 for seed in seeds)
    assert abs(np.mean(seeds) / 2**63 - 0.5) < 0.04  # standard deviation 0.0065


@pytest.mark.parametrize("flip_prob", [0.0, 1.0])
def test_the_ends_of_the_probability(flip_prob):
    assert {draw.flip for draw in draws(flip_prob=flip_prob)} == {bool(flip_prob)}
    assert {(draw.top, draw.left) for draw in draws(padding=0)} == {(0, 0)}


def test_the_wrapped_sampler_keeps_its_order_and_hears_of_the_epoch():
    pids = [pid for pid in range(6) for _ in range(4)]
    wrapped = AugmentedSampler(RandomIdentitySampler(pids, 4, 2, seed=3), 0.5, 4, seed=3)
    alone = RandomIdentitySampler(pids, 4, 2, seed=3)
    assert len(wrapped) == len(alone)
    for epoch in (0, 1, 7):
        wrapped.set_epoch(epoch)
        alone.set_epoch(epoch)
        drawn = list(wrapped)
        assert all(isinstance(draw, Draw) for draw in drawn)
        assert [draw.index for draw in drawn] == list(alone)


def test_the_stream_is_not_that_of_the_identity_sampler():
    numbers = np.random.default_rng((3, 5)).random(3)
    drawn = draws(5, padding=10_000)[0]
    assert (drawn.top, drawn.left) != tuple((numbers[1:] * 20_001).astype(int))


# ---- placement


@pytest.fixture
def ramp():
    """Another number at each place of a (3, 16, 8) image; 0 at none."""
    return torch.arange(1, 129, dtype=torch.uint8).reshape(1, 16, 8).expand(3, -1, -1)


def naive(image, draw, padding):
    flipped = image.flip(-1) if draw.flip else image
    padded = torch.nn.functional.pad(flipped, (padding,) * 4)
    return padded[:, draw.top : draw.top + image.shape[1], draw.left : draw.left + image.shape[2]]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 3, 20])
def test_flip_pad_and_crop_in_this_order(ramp, flip, padding):
    last = ramp.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            draw = Draw(0, flip, top, left, 0)
            assert torch.equal(augment(ramp, draw, padding), naive(ramp, draw, padding))
            assert torch.equal(augment(last, draw, padding), naive(ramp, draw, padding))


def test_the_image_itself_is_not_changed(ramp):
    image = ramp.clone()
    for draw in draws(padding=3):
        augment(image, draw, 3)
    assert torch.equal(image, ramp)
