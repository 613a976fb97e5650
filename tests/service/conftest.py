"""Toy models, and galleries and finders with them."""

import io
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

import clipreid
from config import cfg_base
from config.load import load_config
from model import make_card, make_model
from retrieval import Gallery
from service import Finder
from tests import toys
from tests.sentences import SENTENCES


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
    config = load_config(cfg_base, "", toys.words(toys.SETTINGS))
    network = make_model(config, 2, 2, 1)
    torch.save(network.state_dict(), folder / "toy-vit_60.pth")
    make_card(config, network, "base", data="market1501", versions={}).write(folder / "toy-vit_60.pth")
    return folder / "toy-vit_60.pth", toys.save_text_model(folder / "toy_1.pth")


@pytest.fixture(scope="session")
def model(weight_files):
    return clipreid.load_model(weight_files[0], device="cpu")


@pytest.fixture(scope="session")
def text_model(weight_files):
    return clipreid.load_text_model(weight_files[1], device="cpu")


@pytest.fixture(scope="session")
def multilingual_model(tmp_path_factory):
    """A tiny text search model with AltCLIP's text tower, whose tokenizer has seen `SENTENCES`."""
    pytest.importorskip("transformers")
    from config import cfg_tbps
    from model import make_text_search_card, make_text_search_model
    from tests.altclip import TEXTS, write_altclip

    folder = tmp_path_factory.mktemp("multilingual")
    write_altclip(folder / "hub", [*TEXTS, *SENTENCES.values()])
    settings = {"MODEL.NAME": "AltCLIP", "MODEL.PRETRAIN_CHOICE": "clip", "MODEL.TEXT_LENGTH": "32"}
    settings |= {"MODEL.PRETRAIN_PATH": str(folder / "hub"), "MODEL.SS_LOSS_WEIGHT": "0.0"}
    config = load_config(cfg_tbps, "", toys.words(toys.TEXT_SETTINGS | settings))
    network = make_text_search_model(config)
    torch.save(network.state_dict(), folder / "AltCLIP_1.pth")
    make_text_search_card(config, network, "tbps", data="captions", versions={}).write(
        folder / "AltCLIP_1.pth"
    )
    network.encode_text.tokenizer.save(folder)
    return clipreid.load_text_model(folder / "AltCLIP_1.pth", device="cpu")


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


@contextmanager
def running(app):
    """The address of a server with that app in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
