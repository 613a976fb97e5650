"""State dicts that only look like text search files: one line before anything of their size is made."""

import json
import math

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import load_text_search_model
from model.dual import DualModel
from model.towers.image import make_backbone
from model.towers.text import ClipText
from tests.untrusted.surviving import LIMITS, nothing_else, told_of
from tests.untrusted.weight_files import EasyDict, changed, with_pickle, write_published
from utils.weights import read_state_dict

TOWERS = {
    "vit": {"vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}},
    "resnet": {"vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}},
}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}


def plain(kind):
    """The state dict of a small model whose architecture can be read off its shapes."""
    torch.manual_seed(0)
    clip = open_clip.CLIP(embed_dim=16, text_cfg=TEXT, quick_gelu=True, **TOWERS[kind])
    visual = make_backbone(clip.visual, (128, 64), (8, 8) if kind == "vit" else (16, 16))
    model = DualModel(visual, ClipText(clip), log_scale=2.0)
    return {name: value.half() for name, value in model.state_dict().items()}


PLAIN = {kind: plain(kind) for kind in TOWERS}
# A CLIP of the same towers; its positions are square.
CLIP = {name.removeprefix("encode_text."): value for name, value in PLAIN["vit"].items()}
CLIP["visual.positional_embedding"] = torch.zeros(17, 64)


def survives(weights, path, name=None):
    return told_of(weights, path, lambda: load_text_search_model(path, (128, 64), name=name))


@pytest.mark.parametrize("kind", PLAIN)
def test_the_files_themselves_are_loaded(tmp_path, kind):
    assert survives(PLAIN[kind], tmp_path / "w.pth") is None


WORDS, PLACES, PROJECTION = (
    f"encode_text.{name}" for name in ("token_embedding.weight", "positional_embedding", "text_projection")
)
ONE = torch.ones(1)
CHANGES = {
    "10**9 words": {WORDS: ONE.expand(10**9, 64)},
    "few words": {WORDS: torch.ones(100, 64)},
    "a number for words": {WORDS: torch.tensor(1.0)},
    "words of nothing": {WORDS: torch.ones(49408, 0)},
    "wide words": {WORDS: ONE.expand(49408, 64 * 10**4)},
    "narrow words": {WORDS: ONE.expand(49408, 32)},
    "no words": {WORDS: None},
    "a million places": {PLACES: ONE.expand(10**6, 64)},
    "one place": {PLACES: torch.ones(1, 64)},
    "no place": {PLACES: None},
    "flat places": {PLACES: torch.ones(8 * 64)},
    "narrow places": {PLACES: torch.ones(8, 63)},
    "another projection": {PROJECTION: torch.ones(64, 17)},
    "a wide projection": {PROJECTION: ONE.expand(64, 10**7)},
    "no projection": {PROJECTION: None},
    "a flat projection": {"visual.proj": torch.ones(16)},
    "no image projection": {"visual.proj": None},
    "huge patches": {"visual.conv1.weight": ONE.expand(64, 3, 10**4, 10**4)},
    "wide patches": {"visual.conv1.weight": torch.ones(64, 3, 8, 9)},
    "flat patches": {"visual.conv1.weight": torch.ones(64, 3)},
    "an odd width": {"visual.conv1.weight": torch.ones(63, 3, 8, 8)},
    "10**12 positions": {"visual.positional_embedding": ONE.expand(10**12, 64)},
    "one position": {"visual.positional_embedding": torch.ones(1, 64)},
    "narrow positions": {"visual.positional_embedding": torch.ones(129, 63)},
    "no positions": {"visual.positional_embedding": None},
    "a long temperature": {"logit_scale": torch.ones(3)},
    "no finite temperature": {"logit_scale": torch.tensor(math.nan)},
    "not a number": {PROJECTION: torch.full((64, 16), math.nan)},
    "no end": {"visual.class_embedding": torch.full((64,), -math.inf)},
    "whole numbers": {WORDS: torch.ones(49408, 64, dtype=torch.int8)},
    "truth values": {"visual.ln_pre.bias": torch.ones(64, dtype=torch.bool)},
    "no blocks of texts": {key: None for key in PLAIN["vit"] if "encode_text.transformer" in key},
    "no blocks of images": {key: None for key in PLAIN["vit"] if "visual.transformer" in key},
    "many blocks": {f"encode_text.transformer.resblocks.{n}.ln_1.bias": torch.ones(1) for n in range(3000)},
    "a far block": {f"encode_text.transformer.resblocks.{10**9}.ln_1.weight": torch.ones(64)},
    "a bias missing": {"encode_text.ln_final.bias": None},
    "an odd name": {"encode_text.ln_final.bias.bias": torch.ones(3)},
    "a head of another program": {"head.weight": torch.ones(3)},
    "nearly a known head": {"simclr_mlpx.0.weight": torch.ones(3)},
    "a tower too many": {"visual.attnpool.q_proj.weight": torch.ones(3)},
    "an odd number of places": {"visual.positional_embedding": torch.ones(8 * 16, 64)},
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_does_not_fit_together(tmp_path, case):
    weights = PLAIN["vit"] | CHANGES[case]
    told = survives({key: each for key, each in weights.items() if each is not None}, tmp_path / "w.pth")
    assert told is not None


RESNET_CHANGES = {
    "an empty stage": {key: None for key in PLAIN["resnet"] if "layer3" in key},
    "a narrow stem": {"visual.conv1.weight": torch.ones(1, 3, 3, 3)},
    "a narrow pool": {"visual.attnpool.c_proj.weight": torch.ones(16, 16)},
    "a wide pool": {"visual.attnpool.c_proj.weight": ONE.expand(16, 64 * 10**4)},
    "a number for positions": {"visual.attnpool.positional_embedding": torch.tensor(1.0)},
    "many blocks": {f"visual.layer4.{n}.bn1.bias": torch.ones(1) for n in range(3000)},
}


@pytest.mark.parametrize("case", RESNET_CHANGES)
def test_resnets_that_do_not_fit_together(tmp_path, case):
    weights = PLAIN["resnet"] | RESNET_CHANGES[case]
    weights = {key: each for key, each in weights.items() if each is not None}
    assert survives(weights, tmp_path / "w.pth") is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"visual.positional_embedding": torch.ones(16, 64)},
        {"positional_embedding": torch.ones(8, 63)},
        {"token_embedding.weight": None},
        {"ln_final.bias": torch.full((64,), math.nan)},
        {"simclr_mlp.0.weight": torch.ones(3)},
    ],
)
def test_clip_that_does_not_fit_together(tmp_path, changes):
    name = tmp_path / "tower.json"
    name.write_text(json.dumps({"embed_dim": 16, "text_cfg": TEXT, "quick_gelu": True, **TOWERS["vit"]}))
    assert survives(CLIP, tmp_path / "w.pth", str(name)) is None
    weights = {key: each for key, each in (CLIP | changes).items() if each is not None}
    assert survives(weights, tmp_path / "w.pth", str(name)) is not None


@pytest.mark.parametrize("kind", PLAIN)
@settings(LIMITS, max_examples=30)
@given(data=st.data())
def test_any_shapes(tmp_path, kind, data):
    survives(changed(PLAIN[kind], data), tmp_path / "w.pth")


# ---- the settings in published files


def deep(levels):
    nested = {}
    for _ in range(levels):
        nested = {"a": nested, "b": [nested]}
    return nested


JUNK = {
    "empty": {},
    "nested": deep(8),
    "numbers as keys": {str(number): number for number in range(5000)},
    "odd names": {"a\n\x1b[2Jb": 1, "": 2},
    "tensors": {"visual": torch.ones(3), "visual.conv1": {"weight": torch.ones(2)}},
}


@pytest.mark.parametrize("junk", JUNK)
def test_settings_of_any_content_are_left_out(tmp_path, junk):
    path = tmp_path / "w.pth"
    write_published(path, PLAIN["vit"], settings=JUNK[junk])
    with nothing_else():
        weights = read_state_dict(path, ["visual.conv1.weight"])
    assert all(torch.equal(value, PLAIN["vit"][key]) for key, value in weights.items())
    assert len(weights) == len(PLAIN["vit"])


@pytest.mark.parametrize("full_name", ["yacs.config.CfgNode", "easydict.Other", "EasyDict.EasyDict"])
def test_settings_of_another_class_are_refused(tmp_path, full_name):
    module, _, name = full_name.rpartition(".")
    kind = type(name, (EasyDict,), {"__module__": module})
    path = tmp_path / "w.pth"
    write_published(path, PLAIN["vit"], settings={"a": 1}, kind=kind)
    with pytest.raises(ValueError, match="is no checkpoint of plain tensors") as error:
        load_text_search_model(path)
    assert str(path) in str(error.value) and full_name in str(error.value)


MADE = b"\x80\x02ceasydict\nEasyDict\n"
HOSTILE = {
    "called with what a dict takes": MADE + b"]\x85R.",
    "made of what a dict takes": MADE + b"]\x85\x81.",
    "filled with unhashable keys": MADE + b")\x81(]Nu.",
    "built of no attributes": MADE + b")\x81K\x01b.",
    "one in itself": MADE + b")\x81q\x00X\x05\0\0\0modelh\x00s.",
    "no object but the class": MADE + b".",
    "a method of it": b"\x80\x02ceasydict\nEasyDict.__new__\n)R.",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_the_stand_in_is_only_an_empty_dict(tmp_path, case, capfd):
    path = tmp_path / "w.pth"
    path.write_bytes(with_pickle(HOSTILE[case]))
    with nothing_else(capfd), pytest.raises(ValueError, match="is no checkpoint") as error:
        read_state_dict(path)
    assert "\n" not in str(error.value)


def test_cut_files(tmp_path):
    path = tmp_path / "w.pth"
    write_published(path, PLAIN["vit"])
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with nothing_else(), pytest.raises(ValueError, match="is no checkpoint") as error:
            load_text_search_model(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
