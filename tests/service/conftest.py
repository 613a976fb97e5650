"""Toy models, and galleries and finders with them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import clipreid
from config import cfg_base
from config.load import load_config
from model import make_model
from retrieval import Gallery
from service import Finder
from tests import toys


def draw(seed, size=(32, 16), form="PNG"):
    """The bytes of a picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form)
    return data.getvalue()


@pytest.fixture(scope="session")
def weight_files(toy_towers, tmp_path_factory):
    """The files of a re-id and of a text search model."""
    folder = tmp_path_factory.mktemp("weights")
    network = make_model(load_config(cfg_base, "", toys.words(toys.SETTINGS)), 2, 2, 1)
    torch.save(network.state_dict(), folder / "toy-vit_60.pth")
    return folder / "toy-vit_60.pth", toys.save_text_model(folder / "toy_1.pth")


@pytest.fixture(scope="session")
def model(weight_files):
    return clipreid.load_model(weight_files[0], device="cpu", size=(32, 16))


@pytest.fixture(scope="session")
def text_model(weight_files):
    return clipreid.load_text_model(weight_files[1], device="cpu")


@pytest.fixture
def gallery(model, text_model, tmp_path):
    """An empty gallery with both spaces."""
    models = {"reid": model.space_model, "text": text_model.space_model}
    with Gallery.create(tmp_path / "gallery.db", models) as gallery:
        yield gallery


@pytest.fixture
def finder(gallery, model, text_model, tmp_path):
    finder = Finder(gallery, model, text_model, tmp_path / "pictures")
    yield finder
    finder.close()
