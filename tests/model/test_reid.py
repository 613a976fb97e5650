"""The re-id model: heads, outputs in both modes, side information, names."""

import json
import logging

import pytest
import torch
from torch import nn

from config import cfg, cfg_base
from model import ReIDModel, ReIDOutput, SideInformation
from model.towers.image import ImageFeatures

# ---- heads and outputs


@pytest.mark.parametrize(("name", "widths"), [("toy-vit", (64, 64, 16)), ("toy-resnet", (128, 256, 16))])
def test_training_output(toy_model, toy_images, name, widths):
    model = toy_model("MODEL.NAME", name).train()
    output = model(toy_images(4))
    assert isinstance(output, ReIDOutput)
    assert [tuple(logits.shape) for logits in output.logits] == [(4, 5), (4, 5)]
    assert [tuple(feature.shape) for feature in output.metric] == [(4, width) for width in widths]
    assert output.projected is output.metric[2]
    assert all(value.requires_grad for value in (*output.logits, *output.metric))


def test_logits_come_from_the_necks(toy_model, toy_images):
    model = toy_model().train()
    with torch.no_grad():
        logits, (_, feat, projected), _, _ = model(toy_images(4))
    # Batch statistics, scale 1, bias 0.
    for got, feature, classifier in (
        (logits[0], feat, model.classifier),
        (logits[1], projected, model.classifier_proj),
    ):
        centred = feature - feature.mean(0)
        normed = centred / (feature.var(0, unbiased=False) + 1e-5).sqrt()
        assert torch.allclose(got, normed @ classifier.weight.T, atol=1e-5)


@pytest.mark.parametrize("name", ["toy-vit", "toy-resnet"])
@torch.no_grad()
def test_test_features(toy_model, toy_images, name):
    model = toy_model("MODEL.NAME", name)
    _, feat, projected = model.image_encoder(toy_images())
    before = model(toy_images())
    assert torch.equal(before, torch.cat([feat, projected], dim=1))
    assert before.shape[1] == model.feature_width == model.image_encoder.width + 16
    after = toy_model("MODEL.NAME", name, "TEST.NECK_FEAT", "after")(toy_images())
    assert torch.equal(after, torch.cat([model.bottleneck(feat), model.bottleneck_proj(projected)], dim=1))
    assert not torch.allclose(before, after, atol=1e-2)


def test_necks_and_classifiers_start_as_published(toy_model):
    model = toy_model(classes=500)
    for neck, width in ((model.bottleneck, 64), (model.bottleneck_proj, 16)):
        assert isinstance(neck, nn.BatchNorm1d) and neck.num_features == width
        assert torch.equal(neck.weight, torch.ones(width)) and neck.weight.requires_grad
        assert torch.equal(neck.bias, torch.zeros(width)) and not neck.bias.requires_grad
    for classifier in (model.classifier, model.classifier_proj):
        assert classifier.bias is None and classifier.weight.std().item() == pytest.approx(0.001, rel=0.05)


def test_frozen_neck_bias_gets_no_gradient(toy_model, toy_images):
    model = toy_model(tree=cfg_base).train()
    output = model(toy_images(4))
    sum(value.square().sum() for value in (*output.logits, *output.metric)).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {"bottleneck.bias", "bottleneck_proj.bias"}


def test_unknown_neck_feature(toy_model):
    with pytest.raises(ValueError, match=r"neck_feature is 'middle'; allowed: 'before', 'after'"):
        ReIDModel(toy_model().image_encoder, 3, neck_feature="middle")


# ---- names

HEADS = {
    "bottleneck.weight": (64,),
    "bottleneck.bias": (64,),
    "bottleneck.running_mean": (64,),
    "bottleneck.running_var": (64,),
    "bottleneck.num_batches_tracked": (),
    "bottleneck_proj.weight": (16,),
    "bottleneck_proj.bias": (16,),
    "bottleneck_proj.running_mean": (16,),
    "bottleneck_proj.running_var": (16,),
    "bottleneck_proj.num_batches_tracked": (),
    "classifier.weight": (5, 64),
    "classifier_proj.weight": (5, 16),
}
PROMPTS = {
    "prompt_learner.cls_ctx": (5, 4, 32),
    "prompt_learner.token_prefix": (1, 5, 32),
    "prompt_learner.token_suffix": (1, 68, 32),
}
BOTH = ("MODEL.SIE_CAMERA", True, "MODEL.SIE_VIEW", True)


@pytest.mark.parametrize(
    ("pairs", "tree", "extra"),
    [
        ((), cfg_base, {}),
        ((), cfg, PROMPTS),
        (("MODEL.SIE_CAMERA", True), cfg_base, {"cv_embed": (6, 64)}),
        (("MODEL.SIE_VIEW", True), cfg_base, {"cv_embed": (8, 64)}),
        (BOTH, cfg, {**PROMPTS, "cv_embed": (48, 64)}),
    ],
)
def test_names_and_shapes(toy_model, pairs, tree, extra):
    model = toy_model(*pairs, tree=tree, cameras=6, views=8)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    towers = ("image_encoder.", "text_encoder.")
    assert {name: shape for name, shape in shapes.items() if not name.startswith(towers)} == HEADS | extra
    assert any(name.startswith("text_encoder.") for name in shapes) == (tree is cfg)


@pytest.mark.parametrize("case", ["vit_person", "rn50_person"])
def test_published_towers_name_their_parts_alike(toy_model, golden, case):
    """Without the numbers of layers and blocks, a toy has the names of its big brother."""
    stored = {name for name, _ in json.loads(str(golden(f"models/{case}.npz")["state_dict_keys"]))}
    own = toy_model("MODEL.NAME", "toy-vit" if case == "vit_person" else "toy-resnet").state_dict()
    assert set(own) <= stored
    assert {name.split(".")[0] for name in own} == {name.split(".")[0] for name in stored}


# ---- side information


class Mirror(nn.Module):
    """A backbone whose features are the side information itself."""

    width = last_width = 3
    projected_width = 2

    def forward(self, images, side_information=None):
        side = torch.zeros(len(images), 3) if side_information is None else side_information
        return ImageFeatures(side, side, side[:, :2])


def side_rows(side, camids, viewids, count=4):
    """What the class token is given for ids, and the table that it comes from."""
    model = ReIDModel(Mirror(), 5, side_information=side).eval()
    as_ids = [None if ids is None else torch.tensor(ids) for ids in (camids, viewids)]
    with torch.no_grad():
        return model(torch.zeros(count, 3, 4, 4), *as_ids)[:, :3], model.cv_embed.detach()


@pytest.mark.parametrize(
    ("side", "camids", "viewids", "rows"),
    [
        (SideInformation(6, 0, 1.0), [0, 5, 3, 3], [7, 7, 7, 7], [0, 5, 3, 3]),
        (SideInformation(0, 8, 1.0), [9, 9, 9, 9], [0, 7, 1, 2], [0, 7, 1, 2]),
        (SideInformation(6, 8, 1.0), [0, 5, 0, 2], [0, 7, 3, 1], [0, 47, 3, 17]),
        (SideInformation(6, 1, 1.0), [0, 5, 3, 1], [0, 0, 0, 0], [0, 5, 3, 1]),
    ],
)
def test_row_of_camera_and_view(side, camids, viewids, rows):
    got, table = side_rows(side, camids, viewids)
    assert torch.equal(got, table[rows])


@pytest.mark.parametrize(
    ("side", "camids", "viewids", "rows"),
    [
        (SideInformation(6, 0, 1.0), [-1, 6, 100, 2], None, [None, None, None, 2]),
        (SideInformation(0, 8, 1.0), None, [-1, 8, 7, 0], [None, None, 7, 0]),
        # A known camera does not help where the view is unknown: no row stands for it.
        (SideInformation(6, 8, 1.0), [1, 1, -1, 6], [8, 2, 2, 0], [None, 10, None, None]),
        (SideInformation(6, 0, 1.0), None, [0, 0, 0, 0], [None] * 4),
        (SideInformation(6, 8, 1.0), [1, 1, 1, 1], None, [None] * 4),
        (SideInformation(6, 8, 1.0), None, None, [None] * 4),
    ],
)
def test_unknown_ids_stand_for_the_mean_row(side, camids, viewids, rows):
    got, table = side_rows(side, camids, viewids)
    wanted = torch.stack([table.mean(0) if row is None else table[row] for row in rows])
    assert torch.allclose(got, wanted, atol=1e-7)


def test_scale_multiplies_the_row():
    got, table = side_rows(SideInformation(6, 0, 3.0), [4, 0, 0, 1], None)
    assert torch.allclose(got, 3 * table[[4, 0, 0, 1]])


@pytest.mark.parametrize(
    ("cameras", "views", "rows"), [(6, 8, 48), (6, 0, 6), (0, 8, 8), (1, 0, 1), (0, 0, 0), (20, 1, 20)]
)
def test_rows_of_the_table(cameras, views, rows):
    assert SideInformation(cameras, views, 1.0).rows == rows


def test_table_starts_as_published():
    table = ReIDModel(Mirror(), 5, side_information=SideInformation(500, 8, 1.0)).cv_embed
    assert table.shape == (4000, 3) and table.requires_grad
    assert table.std().item() == pytest.approx(0.02, rel=0.05) and abs(table.mean().item()) < 1e-3


@torch.no_grad()
def test_only_the_test_feature_sees_side_information(toy_model, toy_images):
    model = toy_model("MODEL.SIE_CAMERA", True, "MODEL.SIE_COE", 3.0)
    first, second = (model(toy_images(), torch.tensor(ids)) for ids in ([0, 0], [1, 1]))
    assert not torch.allclose(first, second, atol=1e-4)
    projected = model.image_encoder(toy_images()).feat_proj
    assert torch.equal(model.encode_image(toy_images()), projected)
    plain = toy_model()
    assert torch.equal(plain(toy_images(), torch.tensor([0, 1])), plain(toy_images()))


def test_the_table_learns_where_it_is_used(toy_model, toy_images):
    model = toy_model("MODEL.SIE_CAMERA", True).train()
    model(toy_images(2), torch.tensor([1, 4])).logits[0].square().sum().backward()
    assert (model.cv_embed.grad.abs().sum(1) > 0).tolist() == [False, True, False, False, True, False]


def test_a_resnet_without_place_for_side_information_says_so(toy_model, caplog):
    with caplog.at_level(logging.WARNING, "transreid"):
        model = toy_model("MODEL.NAME", "toy-resnet", "MODEL.SIE_CAMERA", True)
    assert "SIE_CAMERA and SIE_VIEW are not used: toy-resnet has no class token" in caplog.text
    assert "cv_embed" not in model.state_dict()


# ---- texts


@torch.no_grad()
def test_encode_text_is_the_text_side(toy_model):
    model = toy_model(classes=3)
    pids = torch.tensor([2, 0])
    wanted = model.text_encoder.encode_embedded(model.prompt_learner(pids))
    assert torch.allclose(model.encode_prompts(pids), wanted, atol=1e-6) and wanted.shape == (2, 16)
    assert torch.equal(model.encode_text(pids), model.encode_prompts(pids))
    subject = toy_model("DATASETS.SUBJECT", "delivery robot", classes=3)
    assert subject.prompt_learner.length == model.prompt_learner.length + 1


def test_one_stage_models_have_no_text_side(toy_model):
    model = toy_model(tree=cfg_base)
    assert not hasattr(model, "prompt_learner") and not hasattr(model, "text_encoder")
