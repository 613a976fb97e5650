import math

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import resize_like_pil
from datasets.pixels.resize import RESIZES, from_pil, resize_bicubic, resize_bilinear

SIZES = [(256, 128), (256, 256), (384, 128), (224, 224), (64, 32)]
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


@pytest.fixture
def noise():
    """noise(128, 64) -> a picture of independent pixels, in which every rounding shows."""
    rng = np.random.default_rng(0)
    return lambda *shape: Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))


def draw_length(wanted: int, rng: np.random.Generator) -> int:
    """A length to resize to `wanted`: as often any as one for whose ratio torch has exact weights."""
    if rng.random() < 0.5:
        return int(rng.integers(1, 300))
    ratios = [wanted // math.gcd(length, wanted) for length in range(1, wanted + 1)]
    return 1 + int(rng.choice([place for place, ratio in enumerate(ratios) if ratio & (ratio - 1) == 0]))


@pytest.mark.parametrize("size", SIZES)
def test_bilinear_is_that_of_pil_to_the_bit(noise, size):
    rng = np.random.default_rng(sum(size))
    sources = [tuple(draw_length(length, rng) for length in size) for _ in range(26)]
    for source in [*sources, size, (128, 64), (131, 67), (1, 1)]:
        picture = noise(*source)
        wanted = from_pil(picture.resize(size[::-1], BILINEAR))
        assert torch.equal(resize_like_pil(from_pil(picture), size), wanted), source


@pytest.mark.parametrize("size", SIZES)
def test_bicubic_for_testing_is_that_of_pil_to_the_bit(noise, size):
    rng = np.random.default_rng(sum(size))
    sources = [tuple(draw_length(length, rng) for length in size) for _ in range(8)]
    for source in [*sources, size, (128, 64), (700, 9), (1, 1)]:
        picture = noise(*source)
        wanted = from_pil(picture.resize(size[::-1], BICUBIC))
        assert torch.equal(RESIZES["bicubic"](from_pil(picture), size), wanted), source
        assert torch.equal(resize_like_pil(from_pil(picture), size, interpolation="bicubic"), wanted)


@pytest.mark.parametrize("source", [(128, 64), (96, 128), (256, 48), (64, 128)])
def test_exact_ratios_do_without_pil(noise, source, monkeypatch):
    image = from_pil(noise(*source))
    monkeypatch.delattr(Image, "fromarray")
    assert resize_like_pil(image, (256, 128)).shape == (3, 256, 128)


def test_memory_order_does_not_matter(noise):
    last = from_pil(noise(64, 32))
    grey = last[:1].expand(3, -1, -1)
    for resize in RESIZES.values():
        for size in ((128, 64), (100, 50)):
            assert torch.equal(resize(last.contiguous(), size), resize(last, size))
            assert torch.equal(resize(grey, size), resize(grey.contiguous(), size))
    assert resize_like_pil(last, (128, 64)).stride() == (1, 3 * 64, 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize", "like"), [(resize_bicubic, BICUBIC), (resize_bilinear, BILINEAR)])
def test_resizing_for_training_is_close_to_that_of_pil(noise, size, resize, like):
    """Sources that are not shrunk in height, where every PIL goes over rows first."""
    rng = np.random.default_rng(sum(size))
    for _ in range(8):
        picture = noise(int(rng.integers(8, size[0] + 1)), int(rng.integers(8, 300)))
        wanted = from_pil(picture.resize(size[::-1], like)).int()
        difference = (resize(from_pil(picture), size) - wanted).abs()
        assert difference.max() <= 2
        assert (difference > 0).float().mean() < 0.02 and (difference > 1).float().mean() < 1e-4


def test_bicubic_of_twice_the_size_differs_at_the_border_alone(noise):
    picture = noise(128, 64)
    wanted = from_pil(picture.resize((128, 256), BICUBIC)).int()
    difference = (resize_bicubic(from_pil(picture), (256, 128)) - wanted).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-3
    assert not difference[:, 4:-4, 4:-4].any()


def test_an_image_of_the_size_stays(noise):
    image = from_pil(noise(16, 8))
    for resize in (resize_bicubic, resize_bilinear):
        assert torch.equal(resize(image, (16, 8)), image)
