"""Second views against the published transform of single pictures, and the draws of crops."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from datasets import PixelTransform, SecondView, make_second_view
from datasets.pixels.views import draw_crops
from tests.toys import SETTINGS, words

PIXELS = PixelTransform((0.1, 0.45, 0.9), (0.3, 0.2, 0.25))
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 32, 16), dtype=np.uint8))
KEYS = ["a.jpg", "b.jpg#1", "b.jpg#2", "c.jpg"]


def published(image, corner=None):
    """The view of one uint8 (3, H, W), made on the picture before it is normalised."""
    picture = T.RandomHorizontalFlip(1)(Image.fromarray(image.permute(1, 2, 0).numpy()))
    if corner is not None:
        top, left = corner
        picture = T.Pad((10, 5))(picture).crop((left, top, left + image.shape[2], top + image.shape[1]))
    return T.Normalize(PIXELS.mean, PIXELS.std)(T.ToTensor()(picture))


@pytest.mark.parametrize("corner", [(0, 0), (10, 20), (5, 10), (0, 20), (3, 17)])
def test_crops_of_padded_mirror_images(corner):
    view = SecondView(PIXELS, dict.fromkeys(KEYS, corner))(PIXELS(IMAGES), KEYS)
    assert view.is_contiguous()
    assert torch.equal(view, torch.stack([published(image, corner) for image in IMAGES]))


def test_each_image_has_the_crop_of_its_key():
    crops = draw_crops(KEYS, 7)
    view = SecondView(PIXELS, crops)
    images = PIXELS(IMAGES)
    expected = torch.stack([published(image, crops[key]) for image, key in zip(IMAGES, KEYS, strict=True)])
    assert torch.equal(view(images, KEYS), expected)
    order = [2, 0, 3]  # another batch, of which the second image is the first above
    assert torch.equal(view(images[order], [KEYS[i] for i in order]), expected[order])
    with pytest.raises(KeyError, match=r"d\.jpg"):
        view(images[:1], ["d.jpg"])


def test_mirror_images():
    view = SecondView(PIXELS)(PIXELS(IMAGES), KEYS)
    assert torch.equal(view, torch.stack([published(image) for image in IMAGES]))


def test_every_corner_is_drawn_by_seed_and_place():
    keys = [str(number) for number in range(5000)]
    crops = draw_crops(keys, 1)
    rows, columns = zip(*crops.values(), strict=True)
    assert set(rows) == set(range(11)) and set(columns) == set(range(21))
    assert crops == draw_crops(keys, 1) != draw_crops(keys, 2)
    assert list(crops.values()) == list(draw_crops(keys[::-1], 1).values())


@pytest.mark.parametrize("augment", ["none", "flip", "flip_crop"])
def test_the_view_of_a_configuration(augment):
    from config import cfg
    from config.load import load_config
    from datasets import ImageRecord

    records = [ImageRecord(key.partition("#")[0], 1, 0, 0, key) for key in KEYS]
    given = {"TEST.AUGMENT": augment, "SOLVER.SEED": 3, "INPUT.PIXEL_MEAN": "[0.1, 0.45, 0.9]"}
    view = make_second_view(load_config(cfg, "", words(SETTINGS | given)), records)
    if augment == "none":
        assert view is None
    else:
        assert view.pixels.mean == PIXELS.mean
        assert view.crops == ({} if augment == "flip" else draw_crops(KEYS, 3))
