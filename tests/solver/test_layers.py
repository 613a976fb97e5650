"""Layer-wise rates of both towers, next to those of timm."""

import logging

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay

from config import cfg_tbps
from config.check import check_config, unused_keys
from config.load import load_config
from model import make_text_search_model
from solver import make_optimizer
from solver.layers import layer_factors, tower_layers
from tests.toys import TEXT_SETTINGS, words, write_tower

HEADS = {"MODEL.ID_LOSS_WEIGHT": 1.0, "MODEL.MLM_LOSS_WEIGHT": 1.0, "MODEL.MLM_DEPTH": 1}
XLM_R = [
    "encode_text.roberta.embeddings.word_embeddings.weight",
    "encode_text.roberta.encoder.layer.0.attention.self.query.weight",
    "encode_text.roberta.encoder.layer.10.output.dense.bias",
    "encode_text.roberta.encoder.layer.2.output.dense.bias",
    "encode_text.pre_LN.weight",
    "encode_text.transformation.weight",
    "encode_text.text_projection.weight",
]
OPEN_CLIP = [
    "encode_text.transformer.embeddings.LayerNorm.weight",
    "encode_text.transformer.encoder.layer.0.output.dense.weight",
    "encode_text.proj.0.weight",
]
# Names of timm's ViT, and the same parts in CLIP's.
FROM_TIMM = {
    "blocks.": "visual.transformer.resblocks.",
    "cls_token": "visual.class_embedding",
    "pos_embed": "visual.positional_embedding",
    "patch_embed.proj": "visual.conv1",
    "norm_pre": "visual.ln_pre",
    "head.weight": "visual.proj",
}


@pytest.fixture
def build(tmp_path):
    """build(name of a toy tower, settings) -> (configuration, model)."""

    def start(name="toy-vit", settings=()):
        given = {"MODEL.NAME": write_tower(tmp_path / f"{name}.json", name)} | dict(settings)
        config = load_config(cfg_tbps, "", words(TEXT_SETTINGS | given))
        return config, make_text_search_model(config, num_classes=3)

    return start


def factors_of(config, model):
    """Factor and decay by name, of what the optimizer trains."""
    optimizer = make_optimizer(config, model.named_parameters())
    found = {p: (group["lr_scale"], group["weight_decay"]) for group in optimizer.param_groups
             for p in group["params"]}  # fmt: skip
    return {name: found[p] for name, p in model.named_parameters() if p in found}


def test_timms_factors_of_a_vit():
    """timm puts the norm behind the last block into that block's layer; in BEiT, as here, it is above it."""
    vit = VisionTransformer(img_size=16, patch_size=8, embed_dim=8, depth=12, num_heads=2, pre_norm=True)
    wanted = {}
    for group in param_groups_layer_decay(vit, layer_decay=0.75):
        members = {id(parameter) for parameter in group["params"]}
        wanted |= {name: group["lr_scale"] for name, p in vit.named_parameters() if id(p) in members}
    ours = {}
    for name in wanted:
        start = next((start for start in FROM_TIMM if name.startswith(start)), None)
        if start is not None:
            ours[name] = FROM_TIMM[start] + name.removeprefix(start)
    assert wanted.keys() - ours.keys() == {"norm.weight", "norm.bias", "head.bias"}
    found = layer_factors(list(ours.values()), 0.75)
    assert {name: found.get(our, 1.0) for name, our in ours.items()} == {name: wanted[name] for name in ours}
    assert found["visual.class_embedding"] == 0.75**13


def test_both_towers_decay_each_by_its_own_depth(build):
    settings = {"SOLVER.LAYER_DECAY": 0.5, "SOLVER.TEXT_LR_FACTOR": 0.25} | HEADS
    plain = factors_of(*build(settings=HEADS))
    found = factors_of(*build(settings=settings))
    below = {"visual": 0.5**4, "encode_text": 0.25 * 0.5**3}
    blocks = {"visual": [0.125, 0.25, 0.5], "encode_text": [0.0625, 0.125]}
    whole = {"visual": 1.0, "encode_text": 0.25}
    seen = set()
    for name, (factor, decay) in found.items():
        tower, _, rest = name.partition(".")
        wanted = whole.get(tower, plain[name][0])
        if tower in whole and rest.startswith("transformer.resblocks."):
            wanted = blocks[tower][int(rest.split(".")[2])]
        elif rest.split(".")[0] in ("class_embedding", "positional_embedding", "ln_pre", "token_embedding"):
            wanted = below[tower]
        assert (factor, decay) == (wanted, plain[name][1]), name
        seen.add((tower, factor))
    assert found.keys() == plain.keys() and "visual.conv1.weight" not in found  # frozen, by default
    assert {("classifier", 5.0), ("mlm_head", 5.0), ("logit_scale", 1.0), ("simclr_mlp", 1.0)} <= seen


def test_the_defaults_make_no_other_groups(build):
    config, model = build()
    optimizer = make_optimizer(config, model.named_parameters())
    assert [(group["lr_scale"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (1.0, 0.0),
        (1.0, 0.02),
    ]
    assert layer_factors([name for name, _ in model.named_parameters()], 1.0) == {}


def test_stages_of_a_resnet(build):
    config, model = build("toy-resnet", {"SOLVER.LAYER_DECAY": 0.5})
    found = {name: factor for name, (factor, _) in factors_of(config, model).items()}
    for name, factor in found.items():
        tower, part, *_ = (*name.split("."), "")
        if tower == "visual":
            stem, stage = part[:-1] in ("conv", "bn"), part.removeprefix("layer")
            assert factor == (0.5**5 if stem else 0.5 ** (5 - int(stage)) if stage != part else 1.0), name
    assert found["visual.attnpool.positional_embedding"] == 1.0


def test_layers_of_xlm_r():
    (layers,) = tower_layers(XLM_R).values()
    assert layers == [[XLM_R[0]], [XLM_R[1]], [XLM_R[3]], [XLM_R[2]]]  # by number, not by letters
    wanted = dict(zip(XLM_R[:4], (0.0625, 0.125, 0.5, 0.25), strict=True))
    assert layer_factors(XLM_R, 0.5) == wanted
    factors = layer_factors(XLM_R, 0.5, 0.5)
    assert [factors[name] for name in XLM_R] == [1 / 32, 1 / 16, 0.25, 0.125, 0.5, 0.5, 0.5]
    assert layer_factors(OPEN_CLIP, 0.5) == dict(zip(OPEN_CLIP[:2], (0.25, 0.5), strict=True))


def test_one_line_lists_the_rates(build, caplog):
    settings = {"SOLVER.LAYER_DECAY": 0.5, "SOLVER.TEXT_LR_FACTOR": 0.1, "SOLVER.BASE_LR": 0.016}
    config, model = build(settings=settings)
    with caplog.at_level(logging.INFO):
        make_optimizer(config, model.named_parameters())
    (line,) = [record.getMessage() for record in caplog.records if "by layer" in record.getMessage()]
    assert line.startswith("learning rates by layer (SOLVER.LAYER_DECAY 0.5)")
    assert line.endswith(": image 0.001 0.002 0.004 0.008 0.016; text 0.0002 0.0004 0.0008 0.0016")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        make_optimizer(build()[0], model.named_parameters())
    assert "by layer" not in caplog.text


def test_a_step_moves_layers_as_far_as_their_factors(build):
    """The first step of AdamW is as long as the rate, whatever the gradient."""
    config, model = build(settings={"SOLVER.LAYER_DECAY": 0.5, "SOLVER.BASE_LR": 0.016})
    optimizer = make_optimizer(config, model.named_parameters())
    bias = model.visual.transformer.resblocks[0].mlp.c_fc.bias
    before = bias.detach().clone()
    bias.grad = torch.ones_like(bias)
    optimizer.step()
    torch.testing.assert_close(before - bias, torch.full_like(bias, 0.002))


@pytest.mark.parametrize("value", ["0", "1.5", "-0.5"])
def test_other_factors_are_refused(value):
    config = load_config(cfg_tbps, "", ["SOLVER.LAYER_DECAY", value])
    with pytest.raises(ValueError, match=r"SOLVER\.LAYER_DECAY is .*; allowed: above 0, up to 1"):
        check_config(config)


def test_a_factor_of_a_frozen_tower_has_no_effect():
    settings = {"SOLVER.TEXT_LR_FACTOR": 0.5, "MODEL.FREEZE_TEXT": True}
    assert list(unused_keys(load_config(cfg_tbps, "", words(settings)))) == ["SOLVER.TEXT_LR_FACTOR"]
