"""A finished stage 1 as a file."""

import re

import pytest
import torch

from config import cfg
from config.load import load_config
from model import load_stage1, make_model
from tests.toys import SETTINGS, words

PROMPTS = "prompt_learner.cls_ctx"


@pytest.fixture
def model(toy_towers):
    """model(0) -> a model of three identities whose weights depend on the seed."""

    def build(seed, *pairs):
        torch.manual_seed(seed)
        return make_model(load_config(cfg, "", [*words(SETTINGS), *pairs]), 3, 2, 1)

    return build


def test_the_whole_model_is_loaded_in_place(model, tmp_path, caplog):
    caplog.set_level("INFO", "transreid")
    taught, fresh = model(0), model(1)
    torch.save(taught.state_dict(), tmp_path / "toy-vit_stage1_120.pth")
    prompts = fresh.prompt_learner.cls_ctx
    load_stage1(fresh, tmp_path / "toy-vit_stage1_120.pth")
    wanted = taught.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in fresh.state_dict().items())
    assert fresh.prompt_learner.cls_ctx is prompts and prompts.requires_grad and fresh.training
    assert f"stage 1 is taken from {tmp_path / 'toy-vit_stage1_120.pth'}" in caplog.messages


def test_the_prefix_of_dataparallel_is_removed(model, tmp_path):
    taught, fresh = model(0), model(1)
    wrapped = {f"module.{name}": value for name, value in taught.state_dict().items()}
    torch.save({"state_dict": wrapped}, tmp_path / "a.pth")
    load_stage1(fresh, tmp_path / "a.pth")
    assert torch.equal(fresh.prompt_learner.cls_ctx, taught.prompt_learner.cls_ctx)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop(PROMPTS), rf"has no learned prompts \({PROMPTS}\); allowed: a file of"),
        (
            lambda weights: weights.update({PROMPTS: weights[PROMPTS][:2]}),
            "the prompts of 2 identities; allow",
        ),
        (
            lambda weights: weights.update({PROMPTS: torch.tensor(1.0)}),
            "the prompts of 0 identities; allowed",
        ),
        (
            lambda weights: weights.update({PROMPTS: weights[PROMPTS][:, :3]}),
            rf"does not fit this architecture: {PROMPTS} is \[3, 3, 32\] instead of \[3, 4, 32\]",
        ),
        (lambda weights: weights.pop("image_encoder.proj"), "image_encoder.proj is missing"),
        (lambda weights: weights.update(other=torch.ones(1)), "other is not expected"),
    ],
)
def test_other_files_are_refused_and_nothing_is_loaded(model, tmp_path, change, message):
    taught, fresh = model(0), model(1)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    weights = taught.state_dict()
    change(weights)
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message) as caught:
        load_stage1(fresh, tmp_path / "a.pth")
    assert f"path {tmp_path / 'a.pth'}" in str(caught.value) and "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


def test_published_names_of_prompt_learning(model, tmp_path):
    taught, fresh = model(0), model(1)
    weights = {re.sub(r"^(?=bottleneck|classifier)", "vision_", k): v for k, v in taught.state_dict().items()}
    weights["prompt_learner.ctx"] = weights.pop(PROMPTS)
    torch.save({**weights, "logit_scale": torch.tensor(4.6)}, tmp_path / "a.pth")
    load_stage1(fresh, tmp_path / "a.pth")
    wanted = taught.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("name", ["cls_ctx", "ctx"])
def test_prompts_without_a_model_are_refused(model, tmp_path, name):
    weights = model(0).prompt_learner.state_dict()
    weights[name] = weights.pop("cls_ctx")
    torch.save(weights, tmp_path / "clip_model_prompter_119.pth")
    with pytest.raises(
        ValueError, match=r"prompter_119\.pth has learned prompts without the model and withou"
    ):
        load_stage1(model(1), tmp_path / "clip_model_prompter_119.pth")


def test_a_missing_file(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        load_stage1(model(0), tmp_path / "gone.pth")


def test_a_model_without_pretrained_weights_reads_no_file(model, toy_towers):
    pairs = ("MODEL.PRETRAIN_CHOICE", "imagenet", "MODEL.PRETRAIN_PATH", "no/such/file.pt")
    config = load_config(cfg, "", [*words(SETTINGS), *pairs])
    with pytest.raises(FileNotFoundError, match="no/such/file"):
        make_model(config, 3, 2, 1)
    shapes = {
        name: value.shape
        for name, value in make_model(config, 3, 2, 1, pretrained=False).state_dict().items()
    }
    assert shapes == {name: value.shape for name, value in model(0).state_dict().items()}
