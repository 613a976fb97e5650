"""Captions, stage 0 and the presets of reid-task: schedules, matching, features, losses, gradients."""

import json

import numpy as np
import pytest
import torch

from config import cfg
from config.load import load_config
from datasets.captions import match_captions, read_captions
from loss import caption_loss, make_loss, supcon_loss
from model import ReIDOutput, make_model
from solver import make_optimizer, make_schedule, stage_parameters
from tests.test_golden_prompts import assert_close, draw, norms

SIZE, CLASSES = (64, 32), 6
# RN50 with three text blocks
TOWER = {
    "embed_dim": 1024,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 3},
}
LONG = " ".join(f"word{i} and a coat number {i}" for i in range(40))
CAPTIONS = [
    "A man in a red jacket, blue jeans and white sneakers walks to the left.",
    "The woman has long BLACK hair &amp; carries a caf\u00e9-coloured bag; her skirt is knee-length.",
    "pedestrian",
    "A boy on a bicycle   with two\tbackpacks.",
    LONG,
]
MIXED = [None, CAPTIONS[0], None, CAPTIONS[1], " ", CAPTIONS[2], None, LONG]
PRESETS = ("base", "captions", "gs_seed", "gs_main", "stage0_captions")
PIDS = torch.arange(8) % CLASSES


def preset(name, *pairs):
    return load_config(cfg, f"configs/reid_task/{name}.yml", list(pairs))


@pytest.fixture(scope="module")
def stored(golden):
    return golden("reid_task/model.npz")


@pytest.fixture(scope="module")
def make(fill, drawn_clip, tmp_path_factory):
    """make(KEY, VALUE, …) -> the configuration and the model of the preset stage0_captions."""
    folder = tmp_path_factory.mktemp("reid_task")
    (folder / "small.json").write_text(json.dumps(TOWER))
    torch.save(drawn_clip(TOWER), folder / "clip.pt")

    def build(*pairs):
        towers = ("MODEL.NAME", str(folder / "small.json"), "MODEL.PRETRAIN_PATH", str(folder / "clip.pt"))
        sizes = ("INPUT.SIZE_TRAIN", str(list(SIZE)), "INPUT.SIZE_TEST", str(list(SIZE)))
        config = preset("stage0_captions", *towers, *sizes, *pairs)
        model = make_model(config, CLASSES, 6, 1)
        table = model.text_encoder.token_embedding
        kept = None if table is None else table.weight.detach().clone()
        draw(model, fill)
        if table is not None:
            assert torch.equal(table.weight, kept)
        return config, model.eval()

    return build


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_published_settings(golden, name):
    config = preset(name)
    wanted = json.loads((golden_folder() / "presets.json").read_text())[name]
    rates = golden("reid_task/schedules.npz")
    solver = config.SOLVER
    for stage in ("stage0", "stage1", "stage2"):
        node = solver[stage.upper()]
        if stage not in wanted:
            assert stage == "stage0" and node.MAX_EPOCHS == 0
            continue
        schedule = make_schedule(config, "main" if stage == "stage2" else stage)
        got = [schedule(epoch) for epoch in range(1, node.MAX_EPOCHS + 1)]
        assert_close(got, rates[f"{name}_{stage}"], 1e-6)
        sizes = ("ims_per_batch", "optimizer_name", "weight_decay", "max_epochs")
        assert [node[key.upper()] for key in sizes] == [wanted[stage][key] for key in sizes]
    assert wanted["margin"] == solver.MARGIN
    assert [config.MODEL[f"{kind}_LOSS_WEIGHT"] for kind in ("ID", "TRIPLET", "I2T")] == wanted["weights"]


def golden_folder():
    from tests.conftest import GOLDEN

    return GOLDEN / "reid_task"


def test_captions_by_file_name(tmp_path):
    content = json.loads((golden_folder() / "matching.json").read_text(encoding="utf-8"))
    for name in ("caption_all", "parsed"):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(content[name]), encoding="utf-8")
        captions = read_captions(file)
        assert captions == content["parsed"]
        for image, texts in content["names"].items():
            assert (
                match_captions(image, captions) == match_captions(f"a/b/{image}", captions) == (texts or [])
            )


def test_features_of_captions_and_prompts(make, stored, fill):
    _, model = make()
    with torch.no_grad():
        assert_close(model.encode_captions(CAPTIONS), stored["caption_features"], 1e-4)
        assert_close(model.encode_text(torch.arange(CLASSES)), stored["text_features"], 1e-4)
        assert_close(model.encode_text(PIDS, MIXED), stored["mixed_features"], 1e-4)
        table = model.text_encoder.token_embedding.weight
        table.mul_(1.1)
        model.refresh_prompts()
        moved = model.encode_text(torch.arange(CLASSES))
        assert_close(moved, stored["text_features_of_moved_table"], 1e-4)


def test_stage_1_with_captions(make, stored, fill):
    config, model = make()
    features, texts = fill("stage1_feats", (8, 1024), 1.0), model.encode_text(PIDS, MIXED)
    loss = supcon_loss(features, texts, PIDS, PIDS) + supcon_loss(texts, features, PIDS, PIDS)
    loss.backward()
    assert_close([loss.item()], [stored["stage1_caption_loss"]], 3e-4)
    learned = stage_parameters(config, model.named_parameters(), "stage1")
    assert [name for name, _ in learned] == ["prompt_learner.cls_ctx"]
    assert_close(learned[0][1].grad, stored["stage1_caption_grad"], 1e-3)


def test_caption_loss(stored, fill):
    image, text = (fill(name, (12, 64), 1.0).requires_grad_() for name in ("pair_image", "pair_text"))
    loss = caption_loss(image, text, temperature=0.07)
    gradients = torch.autograd.grad(loss, (image, text))
    assert_close([loss.item()], [stored["pair_loss"]], 1e-5)
    assert_close(gradients[0], stored["pair_grad_image"], 1e-4)
    assert_close(gradients[1], stored["pair_grad_text"], 1e-4)
    assert torch.allclose(caption_loss(image, text, pids=torch.arange(12)), loss)


def test_stage_0(make, stored, fill):
    config, model = make()
    parameters = dict(model.named_parameters())
    wanted = json.loads((golden_folder() / "stage0_groups.json").read_text())["groups"]
    own = stage_parameters(config, model.named_parameters(), "stage0")
    assert sorted(name for name, _ in own) == sorted(wanted)
    optimizer, rate = make_optimizer(config, own, "stage0"), make_schedule(config, "stage0")
    names, base = {id(parameter): name for name, parameter in own}, config.SOLVER.STAGE0.BASE_LR
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found = group["lr_scale"] * base, group["weight_decay"]
            assert found == pytest.approx(wanted[names[id(parameter)]], rel=1e-6)
    model.train()
    losses, measured = [], stored["stage0_grad_norm_names"]
    for epoch in range(3):
        for group in optimizer.param_groups:
            group["lr"] = rate(epoch + 1) * group["lr_scale"]
        images = fill(f"stage0_images_{epoch}", (4, 3, *SIZE), 1.0)
        texts = [CAPTIONS[(epoch + place) % len(CAPTIONS)] for place in range(4)]
        optimizer.zero_grad()
        loss = caption_loss(model.encode_image(images), model.encode_captions(texts))
        loss.backward()
        losses.append(loss.item())
        if epoch == 0:
            assert np.allclose(
                norms(parameters, measured, gradients=True), stored["stage0_grad_norms"], rtol=5e-3
            )
        optimizer.step()
    assert_close(losses, stored["stage0_losses"], 3e-3)
    assert np.allclose(norms(parameters, measured), stored["stage0_param_norms"], rtol=1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_losses_of_stage_2(stored, fill, name):
    logits = tuple(fill(each, (16, CLASSES), 1.0) for each in ("score0", "score1"))
    metric = tuple(fill(f"feat{i}", (16, width), 1.0) for i, width in enumerate((32, 64, 48)))
    output = ReIDOutput(logits, metric, metric[2])
    loss = make_loss(preset(name), CLASSES)
    terms = loss(output, torch.arange(16) // 4, fill("texts", (CLASSES, 48), 1.0))
    assert_close([sum(terms.values()).item()], [stored[f"stage2_loss_{name}"]], 1e-4)


def test_no_table_of_words_without_captions(make):
    _, model = make("DATASETS.CAPTIONS", "", "SOLVER.STAGE0.MAX_EPOCHS", 0)
    assert not [name for name in model.state_dict() if "token_embedding" in name]
