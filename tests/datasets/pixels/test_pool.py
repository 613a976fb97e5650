from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import from_pil
from datasets.pixels.pool import pool_augmentation, view_augmentation
from datasets.pixels.resize import resize_bilinear

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "tbps" / "augment.npz")
SIZE, DRAWS = (48, 48), 1000
MEAN, STD = (torch.tensor(values)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
AUGMENTATIONS = {"pool": pool_augmentation(SIZE), "views": view_augmentation(SIZE)}
PICTURE = from_pil(Image.fromarray(GOLDEN["image"]))

by_name = pytest.mark.parametrize("name", AUGMENTATIONS)


@pytest.fixture(scope="module")
def drawn():
    """A function: name → (DRAWS, 3, H, W), normalised."""
    kept = {}

    def draw(name):
        if name not in kept:
            images = torch.stack([AUGMENTATIONS[name](PICTURE, seed) for seed in range(DRAWS)])
            kept[name] = (images / 255 - MEAN) / STD
        return kept[name]

    return draw


@by_name
def test_places_vary_as_published(name, drawn):
    mean, std = (value[:, 2::4, 2::4].numpy() for value in (drawn(name).mean(0), drawn(name).std(0)))
    wanted = GOLDEN[f"{name}_std"]
    # Six standard errors of both, and what bytes round.
    bound = 6 * wanted * np.sqrt(1 / DRAWS + 1 / GOLDEN["draws"]) + 0.03
    assert (abs(mean - GOLDEN[f"{name}_mean"]) <= bound).all()
    assert (abs(std - wanted) <= 0.2 * wanted + 0.06).all()


@by_name
def test_pictures_vary_as_published(name, drawn):
    images = drawn(name)
    flat = images.flatten(1)
    asymmetry = (images - images.flip(3)).abs().mean((1, 2, 3))
    shares = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    found = torch.quantile(torch.stack([flat.mean(1), flat.std(1), asymmetry]), shares, dim=1).numpy()
    wanted = GOLDEN[f"{name}_quantiles"]
    assert (abs(found - wanted) <= 0.12 * (wanted[-1] - wanted[0]) + 0.02).all()


def test_the_pool_leaves_as_many_pictures_unchanged_as_published(drawn):
    plain = (resize_bilinear(PICTURE, SIZE) / 255 - MEAN) / STD
    unchanged = (drawn("pool") == plain).all(dim=(1, 2, 3)).float().mean().item()
    assert abs(unchanged - GOLDEN["pool_identical"]) < 0.035
    assert not (drawn("views") == plain).all(dim=(1, 2, 3)).any()


@by_name
def test_the_seed_decides_and_no_other_draw(name):
    augment = AUGMENTATIONS[name]
    first = [augment(PICTURE, seed) for seed in (2**63 - 1, 4, 5)]
    torch.rand(3)
    state = torch.get_rng_state()
    assert all(
        torch.equal(augment(PICTURE, seed), image) for seed, image in zip((4, 5), first[1:], strict=True)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first[1], first[2])


@by_name
def test_any_picture_becomes_bytes_of_the_size(name):
    grey = torch.arange(200, dtype=torch.uint8).reshape(1, 20, 10).expand(3, -1, -1)
    for image in (grey, PICTURE, PICTURE.contiguous(), PICTURE[:, :1, :1]):
        before = image.clone()
        for seed in range(20):
            out = AUGMENTATIONS[name](image, seed)
            assert out.shape == (3, *SIZE) and out.dtype == torch.uint8
        assert torch.equal(image, before)


def test_the_pool_takes_a_picture_that_is_already_resized():
    resized = resize_bilinear(PICTURE, SIZE)
    for seed in range(20):
        assert torch.equal(*(AUGMENTATIONS["pool"](image, seed) for image in (PICTURE, resized)))
