"""Toy re-id models from a configuration, and files of them."""

import json

import open_clip
import pytest
import torch

from config import cfg, cfg_tbps
from config.load import load_config
from model import make_model, make_text_search_card, make_text_search_model
from model.prompts.identity import PromptLearner
from model.towers.text import ClipText
from tests.toys import MODEL, TEXT_SETTINGS, words, write_tower

TOY_KEYS = MODEL | {
    "MODEL.SIE_COE": 1.0,
    "INPUT.SIZE_TRAIN": [64, 32],
    "INPUT.SIZE_TEST": [64, 32],
    "TEST.NECK_FEAT": "before",
}
# The same towers but for one thing each: activation, depth and patch.
OTHER_TOWERS = {
    "toy-vit-quickgelu": {"quick_gelu": True},
    "toy-vit-deep": {"vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "patch_size": 4}},
}


@pytest.fixture(scope="session")
def other_towers(toy_towers, tmp_path_factory):
    """Names of variants of 'toy-vit', made known to open_clip for this process."""
    folder = tmp_path_factory.mktemp("other_towers")
    for name, changes in OTHER_TOWERS.items():
        write_tower(folder / f"{name}.json", **changes)
    open_clip.add_model_config(folder)
    return tuple(OTHER_TOWERS)


@pytest.fixture(scope="session")
def toy_clip(other_towers):
    """toy_clip('toy-resnet') -> a CLIP model with random weights, statistics included."""

    def build(name="toy-vit"):
        torch.manual_seed(0)
        clip = open_clip.CLIP(**open_clip.get_model_config(name))
        shake_statistics(clip)
        return clip.eval()

    return build


def shake_statistics(module):
    """Give batch norms statistics and scales that matter; open_clip starts some of them at 0."""
    for name, value in module.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.3)
        elif name.endswith("running_var") or ("bn" in name and name.endswith("weight")):
            value.uniform_(0.5, 1.5)


@pytest.fixture
def text_side(toy_clip):
    """text_side('vehicle') -> a CLIP model, its prompt learner and its text tower, frozen."""

    def build(subject="person", classes=3):
        clip = toy_clip()
        encoder = ClipText(clip, token_table=False).requires_grad_(False)
        return clip, PromptLearner(classes, clip.token_embedding, encoder.tokenizer, subject), encoder

    return build


@pytest.fixture(scope="session")
def toy_config(other_towers):
    """toy_config('MODEL.SIE_CAMERA', True, tree=cfg_base) -> a frozen configuration."""

    def load(*pairs, tree=cfg):
        settings = TOY_KEYS | dict(zip(pairs[::2], pairs[1::2], strict=True))
        return load_config(tree, "", words(settings))

    return load


@pytest.fixture(scope="session")
def toy_model(toy_config):
    """toy_model('MODEL.NAME', 'toy-resnet', classes=5) -> a model in evaluation mode, nothing in it at 0."""

    def build(*pairs, tree=cfg, classes=5, cameras=6, views=1):
        torch.manual_seed(0)
        model = make_model(toy_config(*pairs, tree=tree), classes, cameras, views)
        shake_statistics(model)
        return model.eval()

    return build


@pytest.fixture
def toy_images():
    """images(2) -> (2, 3, 64, 32)."""
    return lambda count=2, size=(64, 32): torch.randn(
        count, 3, *size, generator=torch.Generator().manual_seed(1)
    )


@pytest.fixture
def save_weights(tmp_path):
    """save(weights, name) -> the file, named as training names it."""

    def save(weights, name="toy-vit_3.pth"):
        torch.save(weights, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def no_download(monkeypatch):
    """Asking open_clip for weights fails."""
    monkeypatch.setattr(open_clip, "download_pretrained", None)


@pytest.fixture(scope="session")
def text_search_config(other_towers):
    """text_search_config('MODEL.TEXT_LENGTH', 20) -> a frozen configuration of TBPS-CLIP."""

    def load(*pairs):
        settings = TEXT_SETTINGS | dict(zip(pairs[::2], pairs[1::2], strict=True))
        return load_config(cfg_tbps, "", words(settings))

    return load


@pytest.fixture(scope="session")
def text_search_model(text_search_config):
    """text_search_model('MODEL.NAME', 'toy-resnet') -> a model in evaluation mode, nothing in it at 0."""

    def build(*pairs):
        torch.manual_seed(0)
        model = make_text_search_model(text_search_config(*pairs), 5)
        shake_statistics(model)
        return model.eval()

    return build


@pytest.fixture
def save_text_search(text_search_config, text_search_model, save_weights):
    """save_text_search(KEY, VALUE, file='best.pth', card=False) -> a model and its file, with a card."""

    def save(*pairs, file="toy-vit_3.pth", card=True):
        model = text_search_model(*pairs)
        path = save_weights(model.state_dict(), file)
        if card:
            config, about = text_search_config(*pairs), {"data": "cuhk_pedes", "versions": {"torch": "2"}}
            make_text_search_card(config, model, "tbps", **about).write(path)
        return model, path

    return save


@pytest.fixture
def describe(other_towers, tmp_path):
    """describe('mine', 'toy-vit', quick_gelu=True) -> a description file of towers."""

    def write(label, name="toy-vit", **changes):
        path = tmp_path / f"{label}.json"
        path.write_text(json.dumps(open_clip.get_model_config(name) | changes))
        return path

    return write


@pytest.fixture
def start(text_search_config):
    """start(path, KEY, VALUE) -> the model that training starts from with that file, in evaluation mode."""

    def make(path, *pairs):
        given = ("MODEL.PRETRAIN_CHOICE", "clip", "MODEL.PRETRAIN_PATH", str(path))
        torch.manual_seed(1)
        return make_text_search_model(text_search_config(*given, *pairs), 5).eval()

    return make
