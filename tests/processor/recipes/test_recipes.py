"""Both recipes on toy towers: which weights move in which stage, and what the stages are made of."""

from dataclasses import replace

import pytest
import torch

from config import cfg, cfg_base
from loss import make_loss
from processor.engine.loop import fit
from processor.make_recipes import make_plan
from processor.recipes.clipreid import encode_identities
from processor.recipes.image_objective import ImageObjective
from processor.recipes.one_stage import one_stage
from tests.processor.conftest import training_of

CPU = torch.device("cpu")
TOWERS = ("toy-vit", "toy-resnet")
NECK_BIASES = {"bottleneck.bias", "bottleneck_proj.bias"}


def snapshot(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def moved(model, before, names=None):
    now = model.state_dict()
    return {name for name in names or before if not torch.equal(now[name], before[name])}


def image_side(model):
    text = ("prompt_learner.", "text_encoder.")
    return {name for name, _ in model.named_parameters() if not name.startswith(text)} - NECK_BIASES


# ---- baseline


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("pairs", [(), ("MODEL.SIE_CAMERA", True)])
def test_baseline_moves_all_weights(setting, tower, pairs):
    config, model, loaders, run = setting(tower, cfg_base, *pairs)
    plan = replace(make_plan(config, "main"), eval_period=None)
    (stage,) = one_stage("baseline", training_of(config, model, loaders), plan, accuracy=True)
    before = snapshot(model)
    assert (stage.name, stage.suffix, stage.sampler) == ("baseline", "", loaders.train.batch_sampler)
    fit(stage, run)
    parameters = {name for name, _ in model.named_parameters()}
    assert moved(model, before, parameters) == image_side(model) == parameters - NECK_BIASES
    assert moved(model, before, ["bottleneck.running_mean", "bottleneck.num_batches_tracked"])
    assert model.bottleneck.num_batches_tracked == 4  # two batches, two epochs


def test_baseline_reports_the_first_classifier(setting):
    config, model, loaders, _ = setting("toy-vit", cfg_base)
    objective = ImageObjective(model, make_loss(config, 4)).train()
    batch = next(iter(loaders.train)).to(CPU)
    losses, report, samples = objective(batch)
    output = model(batch.images, batch.camids, batch.viewids)
    assert set(losses) == {"id", "triplet"} and set(report) == {"acc"} and samples == 4
    right = (output.logits[0].argmax(1) == batch.pids).float().mean()
    assert report["acc"] == right and all(loss.requires_grad for loss in losses.values())


@pytest.mark.parametrize(
    ("texts", "term", "silent"),
    [
        (None, "MODEL.ID_LOSS_WEIGHT", "acc"),
        (None, "MODEL.TRIPLET_LOSS_WEIGHT", "loss_triplet"),
        (torch.zeros(4, 16), "MODEL.I2T_LOSS_WEIGHT", "acc"),
    ],
)
def test_terms_without_weight_say_nothing_about_learning(setting, texts, term, silent):
    """A classifier that no loss trains stays at chance, however much is learned."""
    for weight in (1.0, 0.0):
        config, model, _, _ = setting("toy-vit", cfg, term, weight)
        objective = ImageObjective(model, make_loss(config, 4), texts)
        found = [sign.name for sign in objective.signs()]
        assert found == [name for name in ("loss_triplet", "acc") if weight or name != silent]


@pytest.mark.parametrize("tree", [cfg, cfg_base])
def test_centre_loss_moves_its_centres(setting, tree):
    config, model, loaders, run = setting("toy-vit", tree, "MODEL.METRIC_LOSS_TYPE", "triplet_center")
    loss = make_loss(config, 4, model.image_encoder.width)
    plan = replace(make_plan(config, "main"), eval_period=None)
    if tree is cfg:
        objective = ImageObjective(model, loss, torch.zeros(4, 16))
    else:
        objective = ImageObjective(model, loss)
    before = loss.center.centers.clone()
    (stage,) = one_stage("baseline", training_of(config, model, loaders, loss), plan, accuracy=True)
    fit(type(stage)(**{**vars(stage), "objective": objective}), run)
    assert not torch.equal(loss.center.centers, before)


# ---- CLIP-ReID


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("pairs", [(), ("MODEL.SIE_CAMERA", True)])
def test_clipreid_moves_prompts_then_the_image_side(setting, two_stages, tower, pairs):
    config, model, loaders, run = setting(tower, cfg, *pairs)
    start = snapshot(model)
    stages = two_stages(config, model, loaders)

    stage1 = next(stages)
    assert (stage1.name, stage1.suffix, stage1.plan.eval_period) == ("stage1", "_stage1", None)
    assert not moved(model, start)  # the cache is filled without leaving a trace in the statistics
    fit(stage1, run)
    assert moved(model, start) == {"prompt_learner.cls_ctx"}

    after1 = snapshot(model)
    stage2 = next(stages)
    assert (stage2.name, stage2.suffix) == ("stage2", "")
    texts = stage2.objective.texts
    assert torch.equal(texts, encode_identities(model)) and not texts.requires_grad
    fit(stage2, run)
    parameters = {name for name, _ in model.named_parameters()}
    assert moved(model, after1, parameters) == image_side(model)
    assert not any(name.startswith(("prompt_learner", "text_encoder")) for name in moved(model, after1))
    assert torch.equal(stage2.objective.texts, texts)
    assert next(stages, None) is None
    assert {path.name for path in run.output_dir.glob("*.pth")} == {f"{tower}_stage1_2.pth", f"{tower}_2.pth"}


def test_stage_1_can_train_the_text_tower(setting, two_stages):
    config, model, loaders, run = setting("toy-vit", cfg, "SOLVER.STAGE1.TRAIN_TEXT", True)
    stages, before = two_stages(config, model, loaders), snapshot(model)
    fit(next(stages), run)
    names = moved(model, before)
    assert (
        "prompt_learner.cls_ctx" in names
        and "text_encoder.transformer.resblocks.0.attn.in_proj_weight" in names
    )
    assert all(name.startswith(("prompt_learner.", "text_encoder.")) for name in names)
    after = snapshot(model)
    fit(next(stages), run)
    assert not any(name.startswith(("prompt_learner.", "text_encoder.")) for name in moved(model, after))


def test_stage_2_learns(setting, two_stages):
    config, model, loaders, run = setting("toy-vit", cfg, "MAIN.MAX_EPOCHS", 12, "INPUT.RE_PROB", 0.0)
    stages = two_stages(config, model, loaders)
    next(stages)
    stage = next(stages)
    fit(stage, run)
    losses = [line.split('"loss": ')[1].split(",")[0] for line in (run.output_dir / "metrics.jsonl").open()]
    assert len(losses) == 12 and float(losses[-1]) < 0.8 * float(losses[0])


def test_image_objective_reports_the_accuracy_of_the_texts(setting):
    config, model, loaders, _ = setting("toy-vit", cfg)
    texts = torch.randn(4, 16)
    objective = ImageObjective(model, make_loss(config, 4), texts).train()
    batch = next(iter(loaders.train)).to(CPU)
    losses, report, samples = objective(batch)
    output = model(batch.images, batch.camids, batch.viewids)
    assert set(losses) == {"id", "triplet", "i2t"} and samples == 4
    assert report["acc"] == ((output.projected @ texts.T).argmax(1) == batch.pids).float().mean()
    assert "texts" in dict(objective.named_buffers())  # it follows the model to its device


@pytest.mark.parametrize("batch_size", [1, 3, 4, 64])
def test_texts_of_all_identities_do_not_depend_on_the_batch(setting, monkeypatch, batch_size):
    _, model, _, _ = setting("toy-vit", cfg)
    monkeypatch.setattr("processor.recipes.clipreid._TEXTS_AT_ONCE", batch_size)
    texts = encode_identities(model)
    with torch.no_grad():
        assert torch.allclose(texts, model.encode_text(torch.arange(4)), atol=1e-6)
    assert texts.shape == (4, 16) and not texts.requires_grad
