"""State dicts that only look like re-id files: an error in one line before anything of their size is made."""

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import load_reid_model
from model.reid import ReIDModel, SideInformation
from model.towers.image import make_backbone
from tests.untrusted.surviving import LIMITS, told_of
from tests.untrusted.weight_files import changed

TOWERS = {
    "vit": {"vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}, "stride": (8, 8)},
    "resnet": {"vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}, "stride": (16, 16)},
}
TEXT = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def plain(kind):
    """The state dict of a small model whose architecture can be read off its shapes."""
    torch.manual_seed(0)
    parts = dict(TOWERS[kind])
    stride = parts.pop("stride")
    clip = open_clip.CLIP(embed_dim=16, text_cfg=TEXT, quick_gelu=True, **parts)
    side = SideInformation(3, 0, 1.0) if kind == "vit" else None
    model = ReIDModel(make_backbone(clip.visual, (256, 128), stride), 5, side_information=side)
    return model.state_dict()


PLAIN = {kind: plain(kind) for kind in TOWERS}


def survives(weights, path):
    return told_of(weights, path, lambda: load_reid_model(path, (256, 128)))


@pytest.mark.parametrize("kind", PLAIN)
def test_the_files_themselves_are_loaded(tmp_path, kind):
    assert survives(PLAIN[kind], tmp_path / "w.pth") is None
    model, info = load_reid_model(tmp_path / "w.pth", (256, 128))
    assert info.num_classes == 5 and not model.training


TOWER = "image_encoder."
VIT_CHANGES = {
    "a number as width": {"bottleneck.weight": torch.tensor(64.0)},
    "no width": {"bottleneck.weight": torch.ones(0)},
    "an odd width": {"bottleneck.weight": torch.ones(63), **dict.fromkeys(["classifier.weight", "cv_embed"])},
    "no classes": {"classifier.weight": torch.ones(0, 64)},
    "10**12 classes": {"classifier.weight": torch.ones(1).expand(10**12, 64)},
    "10**12 classes of nothing": {"classifier.weight": torch.ones(10**12, 0)},
    "10**12 classes in one": {"classifier_proj.weight": torch.ones(1).expand(10**12, 16)},
    "classes as a cube": {"classifier.weight": torch.ones(5, 64, 1)},
    "10**12 cameras": {"cv_embed": torch.ones(1).expand(10**12, 64)},
    "cameras of nothing": {"cv_embed": torch.ones(10**12, 0)},
    "a number for cameras": {"cv_embed": torch.tensor(1.0)},
    "a narrow table": {"cv_embed": torch.ones(3, 63)},
    "flat patches": {f"{TOWER}conv1.weight": torch.ones(64, 3)},
    "a number for patches": {f"{TOWER}conv1.weight": torch.tensor(1.0)},
    "huge patches": {f"{TOWER}conv1.weight": torch.ones(1).expand(64, 3, 10**6, 10**6)},
    "huge patches of nothing": {f"{TOWER}conv1.weight": torch.ones(0, 3, 10**9, 10**9)},
    "wide patches": {f"{TOWER}conv1.weight": torch.ones(64, 3, 8, 9)},
    "no positions": {f"{TOWER}positional_embedding": torch.ones(0, 64)},
    "one position": {f"{TOWER}positional_embedding": torch.ones(1, 64)},
    "10**12 positions": {f"{TOWER}positional_embedding": torch.ones(1).expand(10**12, 64)},
    "flat positions": {f"{TOWER}positional_embedding": torch.ones(513)},
    "narrow positions": {f"{TOWER}positional_embedding": torch.ones(513, 63)},
    "huge width": {
        "bottleneck.weight": torch.ones(64 * 10**4),
        "classifier.weight": torch.ones(1).expand(5, 64 * 10**4),
        "cv_embed": torch.ones(1).expand(3, 64 * 10**4),
    },
    "huge projection": {
        "bottleneck_proj.weight": torch.ones(10**6),
        "classifier_proj.weight": torch.ones(1).expand(5, 10**6),
    },
    "a far block": {f"{TOWER}transformer.resblocks.{10**9}.ln_1.weight": torch.ones(64)},
    "many blocks": {f"{TOWER}transformer.resblocks.{n}.ln_1.weight": torch.ones(1) for n in range(3000)},
    "blocks of a long number": {f"{TOWER}transformer.resblocks.{'9' * 200}.ln_1.weight": torch.ones(64)},
    "whole numbers": {f"{TOWER}ln_pre.weight": torch.ones(64, dtype=torch.int64)},
    "truth values": {"bottleneck.running_var": torch.ones(64, dtype=torch.bool)},
    "complex numbers": {"cv_embed": torch.ones(3, 64, dtype=torch.complex64)},
    "bytes": {f"{TOWER}proj": torch.ones(64, 16, dtype=torch.uint8)},
    "a complex counter": {"bottleneck.num_batches_tracked": torch.tensor(1, dtype=torch.complex64)},
    "a list as counter": {"bottleneck.num_batches_tracked": torch.ones(3, dtype=torch.int64)},
    "a table too many": {f"{TOWER}attnpool.q_proj.weight": torch.ones(3)},
    "an odd name": {f"{TOWER}conv1.weight.weight": torch.ones(3)},
    "no tower": {f"{TOWER}class_embedding": None},
    "no patches": {f"{TOWER}conv1.weight": None},
    "no neck": {"bottleneck_proj.weight": None},
    "no blocks": {key: None for key in PLAIN["vit"] if "resblocks" in key},
    "half the classes": {"classifier_proj.weight": None},
    "a bias missing": {f"{TOWER}ln_post.bias": None},
}
RESNET_CHANGES = {
    "an empty stage": {key: None for key in PLAIN["resnet"] if "layer3" in key},
    "a narrow stem": {f"{TOWER}conv1.weight": torch.ones(1, 3, 3, 3)},
    "no numbers in wide rows": {f"{TOWER}bn1.weight": torch.ones(1).expand(0, 10**12, 10**12)},
    "10**12 positions": {f"{TOWER}attnpool.positional_embedding": torch.ones(1).expand(10**12, 256)},
    "a number for positions": {f"{TOWER}attnpool.positional_embedding": torch.tensor(1.0)},
    "narrow features": {"bottleneck.weight": torch.ones(32), "classifier.weight": None},
    "many blocks": {f"{TOWER}layer4.{n}.bn1.bias": torch.ones(1) for n in range(3000)},
}


@pytest.mark.parametrize(
    ("kind", "case"),
    [*(("vit", case) for case in VIT_CHANGES), *(("resnet", case) for case in RESNET_CHANGES)],
)
def test_what_does_not_fit_together(tmp_path, kind, case):
    changes = (VIT_CHANGES if kind == "vit" else RESNET_CHANGES)[case]
    weights = {key: value for key, value in (PLAIN[kind] | changes).items() if value is not None}
    assert survives(weights, tmp_path / "w.pth")


@pytest.mark.parametrize("kind", PLAIN)
@settings(LIMITS, max_examples=60)
@given(data=st.data())
def test_any_shapes(tmp_path, kind, data):
    survives(changed(PLAIN[kind], data), tmp_path / "w.pth")
