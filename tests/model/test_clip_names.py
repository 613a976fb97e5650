"""CLIP models by name or by a description file, and what is refused."""

import json

import open_clip
import pytest
import torch

from model import model_label
from model.clip import clip_config, image_tower, load_clip
from tests.untrusted.surviving import nothing_else


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


VISION = {"image_size": 32, "layers": 1, "width": 8, "patch_size": 8, "head_width": 8}
TEXT = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def described(vision=None, text=None, **more):
    towers = {"vision_cfg": VISION | (vision or {}), "text_cfg": TEXT | (text or {})}
    return json.dumps({"embed_dim": 8, **towers, **more})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid JSON"),
        ("[1]", "it is [1]; allowed: "),
        ("[" * 10**4, "recursion"),
        ('{"a": ' * 10**4, "recursion"),
        (" " * 10**5, "has 100,000 bytes; allowed: at most 65,536"),
        ('{"embed_dim": 8}', "vision_cfg: Field required"),
        (described({"depth": 3}), "'depth'"),
        (described({"width": 2**40}), f"vision_cfg.width is {2**40}; allowed: "),
        (described({"width": int("9" * 400)}), "vision_cfg.width is 999"),
        (described({"width": 8.0}), "vision_cfg.width is 8.0"),
        (described({"width": "8"}), "vision_cfg.width is '8'"),
        (described({"patch_size": 0}), "vision_cfg.patch_size is 0; allowed: "),
        (described({"layers": True}), "layers.constrained-int is True"),
        (described({"layers": 10**9}), "layers.constrained-int is 1000000000"),
        (described({"layers": [1, 1]}), "vision_cfg.layers"),
        (described({"layers": -1}), "layers.constrained-int is -1"),
        (described({"mlp_ratio": 1e300}), "vision_cfg.mlp_ratio is 1e+300"),
        (described({"mlp_ratio": float("nan")}), "vision_cfg.mlp_ratio is nan"),
        (described({"image_size": [32, 0]}), "vision_cfg.image_size"),
        (described({"head_width": 16}), ""),
        (described({"patch_dropout": "much"}), ""),
        (described(text={"vocab_size": 2**40}), f"text_cfg.vocab_size is {2**40}"),
        (described(text={"heads": 3}), "divisible"),
        (described(text={"context_length": None}), "text_cfg.context_length is None"),
        (described({"width": 16_384, "layers": 200}), "parameters; allowed: at most 5,000,000,000"),
        (described({"attentional_pool": True, "attn_pooler_queries": 10**12}), "parameters; allowed"),
        (described(quick_gelu="yes"), "quick_gelu is 'yes'"),
        (described(model_cfg={"embed_dim": 8}), "model_cfg.vision_cfg: Field required"),
    ],
)
def test_files_that_describe_no_model(tmp_path, text, message):
    file = tmp_path / "odd.json"
    file.write_text(text)
    with nothing_else(), pytest.raises(ValueError) as error:
        clip_config(str(file))
    assert one_line(error).startswith(str(file)) and message in str(error.value)


def test_towers_of_others_are_refused_before_they_are_built(tmp_path):
    for vision in ({"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": True}, {}):
        file = tmp_path / "timm.json"
        file.write_text(described(vision, custom_text=not vision))
        with pytest.raises(ValueError, match=r"timm\.json', which has no plain CLIP towers"):
            clip_config(str(file))


def test_missing_description(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.json: no such file"):
        clip_config(str(tmp_path / "gone.json"))


@pytest.mark.parametrize("name", ["toy-vit", "toy-resnet"])
def test_image_tower_is_the_image_side(toy_clip, name):
    shapes = {key: value.shape for key, value in image_tower(clip_config(name)).state_dict().items()}
    assert shapes == {key: value.shape for key, value in toy_clip(name).visual.state_dict().items()}
