from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing

from datasets import transforms

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "transforms.npz")
HALF = ([0.5] * 3, [0.5] * 3)
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CASES = {"person": ((256, 128), *HALF), "vehicle": ((256, 256), *IMAGENET)}
OFF = {"flip_prob": 0.0, "padding": 0, "erase_prob": 0.0}


@pytest.mark.parametrize("image", ["noise", "smooth"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["test", "train_noaug"])
def test_golden_outputs(image, case, kind):
    picture = Image.fromarray(GOLDEN[f"{image}_uint8"])
    if kind == "test":
        transform = transforms.test_transform(*CASES[case])
    else:
        transform = transforms.train_transform(*CASES[case], **OFF)
    out = transform(picture)
    assert out.shape == (3, *CASES[case][0])
    np.testing.assert_allclose(out[:, ::8, ::8], GOLDEN[f"{image}_{case}_{kind}"], rtol=0, atol=1e-6)


def make(**options):
    return transforms.train_transform((16, 8), *HALF, **{**OFF, **options})


@pytest.fixture
def ramp():
    """White at the left to black at the right, of the size that training asks for."""
    return Image.fromarray(np.tile(np.linspace(255, 0, 8, dtype=np.uint8)[None, :, None], (16, 1, 3)))


def test_flip_mirrors_left_and_right(ramp):
    assert torch.equal(make(flip_prob=1.0)(ramp), make()(ramp).flip(-1))


def test_padding_shifts_the_image_and_fills_with_black(ramp):
    torch.manual_seed(0)
    plain = make()(ramp)
    padded = torch.nn.functional.pad(plain, (3, 3, 3, 3), value=-1.0)
    crops = padded.unfold(1, 16, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).reshape(-1, 3, 16, 8)
    places = {int((crops == make(padding=3)(ramp)).all(3).all(2).all(1).nonzero()[0]) for _ in range(60)}
    assert len(places) > 20  # of 7 x 7


def test_erasing_puts_one_rectangle_of_unit_noise_after_normalisation():
    torch.manual_seed(0)
    black = Image.new("RGB", (64, 128))
    transform = transforms.train_transform((128, 64), *HALF, flip_prob=0.0, padding=0, erase_prob=1.0)
    values = []
    for _ in range(40):
        erased = transform(black)
        inside = (erased != -1.0).any(0)
        rows, columns = inside.any(1).sum(), inside.any(0).sum()
        assert inside.sum() == rows * columns  # one full rectangle
        assert 0.01 < inside.float().mean() < 0.35
        values.append(erased[:, inside].flatten())
    noise = torch.cat(values)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


def test_erasing_has_the_published_settings():
    erase = transforms.train_transform((16, 8), *HALF, **OFF | {"erase_prob": 0.3}).transforms[-1]
    assert isinstance(erase, RandomErasing)
    assert (erase.probability, erase.min_area, erase.max_area) == (0.3, 0.02, 1 / 3)
    assert (erase.per_pixel, erase.max_count, erase.device) == (True, 1, "cpu")
    assert np.exp(erase.log_aspect_ratio) == pytest.approx([0.3, 1 / 0.3])
