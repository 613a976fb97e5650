import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import PixelTransform
from datasets.pixels import transforms
from datasets.pixels.resize import from_pil, resize_bicubic, resize_like_pil

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "transforms.npz")
HALF = ((0.5,) * 3, (0.5,) * 3)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CASES = {"person": ((256, 128), *HALF), "vehicle": ((256, 256), *IMAGENET)}


@pytest.mark.parametrize("image", ["noise", "smooth"])
@pytest.mark.parametrize("case", CASES)
def test_golden_outputs_of_testing(image, case):
    size, *statistics = CASES[case]
    picture = Image.fromarray(GOLDEN[f"{image}_uint8"])
    out = transforms.test_transform(size, *statistics)(picture)
    assert out.shape == (3, *size)
    np.testing.assert_allclose(out[:, ::8, ::8], GOLDEN[f"{image}_{case}_test"], rtol=0, atol=1e-6)
    tensor = PixelTransform(*statistics)(resize_like_pil(from_pil(picture), size)[None])
    assert torch.equal(tensor[0], out)


@pytest.mark.parametrize("image", ["noise", "smooth"])
@pytest.mark.parametrize("case", CASES)
def test_golden_outputs_of_training_up_to_one_grey_level(image, case):
    """Without augmentation. PIL rounds bicubic weights to 22 binary places, torch to 14."""
    size, *statistics = CASES[case]
    resized = resize_bicubic(from_pil(Image.fromarray(GOLDEN[f"{image}_uint8"])), size)
    golden = torch.from_numpy(GOLDEN[f"{image}_{case}_train_noaug"])
    difference = (PixelTransform(*statistics)(resized[None])[0, :, ::8, ::8] - golden).abs()
    one_level = 1 / 255 / torch.tensor(statistics[1])[:, None, None]
    assert (difference <= one_level + 1e-6).all()
    assert (difference > 1e-6).float().mean() < 0.015


# ---- PixelTransform


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (5, 3, 16, 8), dtype=np.uint8))


@pytest.mark.parametrize("statistics", [HALF, IMAGENET])
def test_every_level_becomes_the_number_of_the_test_transform(statistics):
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(3, -1, -1)
    picture = Image.fromarray(levels.permute(1, 2, 0).numpy())
    wanted = transforms.test_transform((16, 16), *statistics)(picture)
    assert torch.equal(PixelTransform(*statistics)(levels[None])[0], wanted)


def test_its_output_is_contiguous_and_its_input_stays(batch):
    before = batch.clone()
    last = batch.to(memory_format=torch.channels_last)
    for images in (batch, last):
        out = PixelTransform(*HALF, erase_prob=1.0)(images, range(5))
        assert out.is_contiguous() and out.dtype == torch.float32 and out.shape == batch.shape
        assert torch.equal(images, before)
    assert PixelTransform(*HALF)(batch.to("meta")).device.type == "meta"


def test_it_is_small_to_send():
    pixels = PixelTransform(*IMAGENET, erase_prob=0.5)
    data = pickle.dumps(pixels)
    assert pickle.loads(data) == pixels and len(data) < 300


# ---- erasing


def erase(images, prob, seeds=None):
    """The network's input and where it differs from what it is without erasing (B, H, W)."""
    erased = PixelTransform(*HALF, erase_prob=prob)(images, range(len(images)) if seeds is None else seeds)
    return erased, (erased != PixelTransform(*HALF)(images)).any(1)


def test_erasing_puts_one_rectangle_of_unit_noise_after_normalisation():
    erased, inside = erase(torch.zeros(60, 3, 128, 64, dtype=torch.uint8), 1.0)
    for image in inside:
        rows, columns = image.any(1).sum(), image.any(0).sum()
        assert image.sum() == rows * columns  # one full rectangle
        assert 0.01 < image.float().mean() < 0.35
    noise = erased.permute(0, 2, 3, 1)[inside]
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert abs((noise.abs() < 1).float().mean() - 0.6827) < 0.01  # as of a normal distribution
    assert len({tuple(image.any(1).tolist()) for image in inside}) > 30  # drawn for each image


def test_the_share_of_erased_images_is_the_probability():
    _, inside = erase(torch.zeros(400, 3, 32, 16, dtype=torch.uint8), 0.3)
    assert abs(inside.any(2).any(1).float().mean() - 0.3) < 0.08
    images = torch.zeros(50, 3, 32, 16, dtype=torch.uint8)
    assert not erase(images, 0.0)[1].any()


@pytest.mark.parametrize("prob", [0.5, 1.0])
def test_an_image_is_erased_by_its_seed_wherever_it_is(batch, prob):
    seeds = [2**63 - 1, 5, 0, 2**40, 17]
    first, _ = erase(batch, prob, seeds)
    torch.manual_seed(1)
    random.seed(1)
    assert torch.equal(erase(batch, prob, seeds)[0], first)
    order = [3, 0, 4, 2, 1]
    assert torch.equal(erase(batch[order], prob, [seeds[i] for i in order])[0], first[order])
    for i, seed in enumerate(seeds):
        assert torch.equal(erase(batch[i : i + 1], prob, [seed])[0][0], first[i])


def test_images_of_different_seeds_are_erased_differently(batch):
    erased, _ = erase(batch[:1].expand(40, -1, -1, -1), 1.0)
    assert len({image.numpy().tobytes() for image in erased}) == 40


@pytest.mark.parametrize("prob", [0.0, 0.5, 1.0])
def test_no_global_generator_moves(batch, prob):
    state, python_state = torch.get_rng_state(), random.getstate()
    erase(batch, prob)
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python_state


@pytest.mark.parametrize("count", [0, 4, 6])
def test_another_number_of_seeds_is_refused(batch, count):
    with pytest.raises(ValueError):
        PixelTransform(*HALF, erase_prob=0.5)(batch, range(count))
    assert PixelTransform(*HALF)(batch, range(count)).shape == batch.shape  # where none is needed


def test_erasing_has_the_published_settings(batch, monkeypatch):
    made = []
    erasing = transforms.RandomErasing
    monkeypatch.setattr(
        transforms,
        "RandomErasing",
        lambda *args, **options: made.append(erasing(*args, **options)) or made[0],
    )
    PixelTransform(*HALF, erase_prob=0.3)(batch, range(5))
    (settings,) = made
    assert (settings.probability, settings.min_area, settings.max_area) == (0.3, 0.02, 1 / 3)
    assert (settings.per_pixel, settings.max_count, settings.device) == (True, 1, batch.device)
    assert np.exp(settings.log_aspect_ratio) == pytest.approx([0.3, 1 / 0.3])
