"""CLIP models by name or by a description file, and what is refused."""

import json

import open_clip
import pytest
import torch

from model import model_label
from model.clip import clip_config, image_tower, load_clip


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


# ---- names


@pytest.mark.parametrize(("name", "width"), [("ViT-B-16", 512), ("RN50", 1024)])
def test_the_published_names_are_openais_towers(name, width):
    config = clip_config(name)
    assert config["quick_gelu"] is True and config["embed_dim"] == width
    assert clip_config(f"{name}-quickgelu") == config


def test_other_names_are_open_clips():
    assert not clip_config("ViT-B-32").get("quick_gelu")
    assert clip_config("ViT-L-14")["vision_cfg"]["layers"] == 24


@pytest.mark.parametrize(
    ("name", "near"),
    [("ViT-B16", "ViT-B-16"), ("vit-b-16", "ViT-B-16"), ("RN-50", "RN50"), ("resnet50", None)],
)
def test_unknown_names_come_with_near_ones(name, near):
    with pytest.raises(ValueError, match=f"name is '{name}'; allowed: 'ViT-B-16', 'RN50' and") as error:
        clip_config(name)
    message = one_line(error).partition("e.g. ")[2]
    assert near is None or near in message.split(", ")


@pytest.mark.parametrize(
    "name", ["ViT-B-16-SigLIP", "convnext_base", "roberta-ViT-B-32", "coca_ViT-B-32", "EVA02-B-16"]
)
def test_names_without_plain_towers(name):
    with pytest.raises(ValueError, match=f"name is '{name}', which has no plain CLIP towers; allowed: "):
        clip_config(name)


# ---- descriptions


@pytest.mark.parametrize(
    "wrap", [lambda config: config, lambda config: {"model_cfg": config, "preprocess_cfg": {}}]
)
def test_a_description_file_names_a_model(toy_clip, tmp_path, wrap):
    file = tmp_path / "my-vit.json"
    file.write_text(json.dumps(wrap(open_clip.get_model_config("toy-vit"))))
    assert clip_config(str(file)) == clip_config("toy-vit")
    assert model_label(str(file)) == "my-vit" and model_label("ViT-B-16") == "ViT-B-16"
    torch.save(toy_clip().state_dict(), tmp_path / "clip.pt")
    clip = load_clip(str(file), "clip", str(tmp_path / "clip.pt"), "")
    assert torch.equal(clip.visual.proj, toy_clip().visual.proj)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[1]", "'list' object has no attribute"),
        ('{"embed_dim": 8}', "'vision_cfg'"),
        ('{"embed_dim": 8, "vision_cfg": {"depth": 3}, "text_cfg": {}}', "'depth'"),
    ],
)
def test_files_that_describe_no_model(tmp_path, text, message):
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="is no model description of open_clip: ") as error:
        clip_config(str(file))
    assert str(file) in one_line(error) and message in str(error.value)
    assert "needed: embed_dim, vision_cfg, text_cfg" in str(error.value)


def test_missing_description(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"name is .*gone\.json: no such model description"):
        clip_config(str(tmp_path / "gone.json"))


@pytest.mark.parametrize("name", ["toy-vit", "toy-resnet"])
def test_image_tower_is_the_image_side(toy_clip, name):
    shapes = {key: value.shape for key, value in image_tower(clip_config(name)).state_dict().items()}
    assert shapes == {key: value.shape for key, value in toy_clip(name).visual.state_dict().items()}
