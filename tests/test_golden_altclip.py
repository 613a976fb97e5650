"""AltCLIP as transformers has it, small and random: both features and the temperature."""

import json

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("transformers")

from config import cfg_tbps
from config.load import load_config
from model import make_text_search_model
from tests.toys import words

FULL = "configs/tbps/vit_tbps.yml"


@pytest.fixture
def stored(golden):
    return golden("tbps/altclip.npz")


@pytest.fixture
def folder(stored, fill, tmp_path):
    """The files on the hub, weights from their names; the tokenizer is not needed for tokens."""

    def weight(name, shape):
        if name == "logit_scale":
            return torch.tensor(2.6592)
        is_norm = name.endswith("weight") and any(
            part in name.lower() for part in ("norm", "layrnorm", ".pre_ln.")
        )
        spread = 0.05 if is_norm else 0.02 if name.endswith("bias") or len(shape) < 2 else shape[-1] ** -0.5
        return fill(f"alt.{name}", tuple(shape), spread, 1.0 if is_norm else 0.0)

    shapes = json.loads(str(stored["shapes"]))
    (tmp_path / "config.json").write_text(str(stored["config"]))
    save_file({name: weight(name, shape) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
    return tmp_path


@torch.no_grad()
def test_features_are_those_of_transformers(stored, folder, fill, repository):
    given = {
        "MODEL.NAME": "AltCLIP",
        "MODEL.PRETRAIN_PATH": str(folder),
        "MODEL.TEXT_LENGTH": 16,
        "INPUT.SIZE_TRAIN": [int(stored["size"])] * 2,
        "INPUT.SIZE_TEST": [int(stored["size"])] * 2,
    }
    model = make_text_search_model(load_config(cfg_tbps, repository / FULL, words(given))).eval()
    images = fill("alt_images", tuple(stored["image_shape"]), 1)
    found = {
        "image": model.encode_image(images),
        "text": model.encode_text(torch.from_numpy(stored["tokens"])),
        "logit_scale": model.logit_scale,
    }
    for name, value in found.items():
        torch.testing.assert_close(value, torch.as_tensor(stored[name]), rtol=1e-4, atol=1e-5)
