import math
import random

import numpy as np
import pytest
import torch

from datasets import PixelTransform, erase_constant

STATISTICS = ((0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
MEAN = STATISTICS[0]


def erased_box(image):
    """First and last row, first and last column of the rectangle that is not zero; None where all is."""
    changed = (image != 0).any(0)
    if not changed.any():
        return None
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    assert changed.sum() == len(rows) * len(columns)
    return rows[0].item(), rows[-1].item(), columns[0].item(), columns[-1].item()


def test_golden_draws():
    """What published PCL-CLIP erases with Python's generator at seed 3."""
    rng, boxes = random.Random(3), []
    for _ in range(4):
        image = torch.zeros(3, 256, 128)
        erase_constant(image, rng, 0.5, 0.5)
        boxes.append(erased_box(image))
        assert set(image.unique().tolist()) <= {0.0, 0.5}
    assert boxes == [(121, 223, 40, 111), None, None, None]


def published_box(rng, height, width):
    """The published rule, written out: what it erases of an image that it is to erase."""
    for _ in range(100):
        target = rng.uniform(0.02, 0.4) * (height * width)
        aspect = rng.uniform(0.3, 1 / 0.3)
        h, w = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if w < width and h < height:
            top, left = rng.randint(0, height - h), rng.randint(0, width - w)
            return top, top + h - 1, left, left + w - 1
    return None


@pytest.mark.parametrize("size", [(256, 128), (16, 8), (8, 40)])
def test_the_rule_is_the_published_one(size):
    rng, published = random.Random(11), random.Random(11)
    for _ in range(300):
        image = torch.zeros(3, *size)
        erase_constant(image, rng, 0.6, 1.0)
        wanted = None if published.uniform(0, 1) >= 0.6 else published_box(published, *size)
        assert erased_box(image) == wanted
    assert rng.getstate() == published.getstate()


def test_each_channel_has_its_value():
    image = torch.zeros(3, 64, 32)
    erase_constant(image, random.Random(0), 1.0, torch.tensor([1.0, 2.0, 3.0])[:, None, None])
    top, _, left, _ = erased_box(image)
    assert image[:, top, left].tolist() == [1, 2, 3]


def test_the_ends_of_the_probability():
    for seed in range(50):
        image = torch.zeros(3, 64, 32)
        erase_constant(image, random.Random(seed), 0.0, 1.0)
        assert not image.any()
        erase_constant(image, random.Random(seed), 1.0, 1.0)
        assert image.any()


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1)])
def test_an_image_in_which_no_rectangle_fits_stays(size):
    for seed in range(20):
        image = torch.zeros(3, *size)
        erase_constant(image, random.Random(seed), 1.0, 1.0)
        assert not image.any()


# ---- in a batch


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (6, 3, 32, 16), dtype=np.uint8))


def erase(images, seeds, probability=0.5):
    return PixelTransform(*STATISTICS, erase_prob=probability, erase_fill=MEAN)(images, seeds)


def test_the_fill_is_written_after_normalisation(batch):
    plain, erased = PixelTransform(*STATISTICS)(batch), erase(batch, range(6), 1.0)
    changed = (plain != erased).any(1)
    assert changed.flatten(1).any(1).all()
    assert {tuple(pixel) for pixel in erased.permute(0, 2, 3, 1)[changed].tolist()} == {
        tuple(torch.tensor(MEAN).tolist())
    }


def test_an_image_is_erased_by_its_seed_wherever_it_is(batch):
    seeds = [2**63 - 1, 5, 0, 2**40, 17, 18]
    whole = erase(batch, seeds)
    assert not torch.equal(whole, PixelTransform(*STATISTICS)(batch))
    for size in (1, 2, 4):
        parts = [erase(batch[i : i + size], seeds[i : i + size]) for i in range(0, 6, size)]
        assert torch.equal(torch.cat(parts), whole)
    order = [3, 5, 0, 4, 2, 1]
    assert torch.equal(erase(batch[order], [seeds[i] for i in order]), whole[order])
    assert len({image.numpy().tobytes() for image in erase(batch[:1].expand(40, -1, -1, -1), range(40))}) > 10


def test_it_needs_no_global_generator_and_a_seed_for_each_image(batch):
    state, python_state = torch.get_rng_state(), random.getstate()
    erase(batch, range(6))
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python_state
    with pytest.raises(ValueError, match=r"^seeds has 5 items; allowed: 6, one for each image$"):
        erase(batch, range(5))


def test_it_fills_where_the_images_are(batch):
    assert erase(batch.to("meta"), range(6), 1.0).device.type == "meta"
    if torch.cuda.is_available():
        assert torch.equal(erase(batch.cuda(), range(6)).cpu(), erase(batch, range(6)))
