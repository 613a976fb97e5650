"""Prototypes that are built anew before every epoch, in each recipe that can have them."""

import logging
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from config import cfg, cfg_base, cfg_pcl
from datasets import make_dataset
from loss import make_loss
from processor import METHODS
from processor.engine.loop import fit
from processor.make_parts import Parts
from processor.make_recipes import make_plan
from processor.recipes.image_objective import ImageObjective
from processor.recipes.one_stage import one_stage
from processor.recipes.refresh import Refreshed, with_prototypes
from tests.processor.conftest import training_of

CPU = torch.device("cpu")
TOWERS = ("toy-vit", "toy-resnet")
TREES = {"baseline": cfg_base, "clipreid": cfg, "pcl": cfg_pcl}
PROTOTYPES = ("MODEL.PCL_LOSS_WEIGHT", 1.0)


def features_of(config, model, loaders):
    return training_of(config, model, loaders).extract_train


def naive_prototypes(images, classes):
    unit = F.normalize(images.features)
    means = [unit[images.pids == pid].mean(dim=0) for pid in range(classes)]
    return F.normalize(torch.stack(means))


@pytest.mark.parametrize("tower", TOWERS)
def test_features_are_those_after_the_neck_of_all_training_images(setting, tower):
    config, model, loaders, _ = setting(tower, cfg_pcl, "TEST.NECK_FEAT", "before")
    images = features_of(config, model, loaders)()
    assert len(images) == 8 and images.features.shape[1] == model.feature_width
    model.neck_feature = "after"
    wanted = torch.cat([model(batch.to(CPU).images) for batch in loaders.plain])
    assert torch.allclose(images.features, wanted, atol=1e-5)
    assert images.pids.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_side_information_reaches_the_prototypes(setting):
    config, model, loaders, _ = setting("toy-vit", cfg_pcl, "MODEL.SIE_CAMERA", True)
    with torch.no_grad():
        model.cv_embed.normal_()
    images = features_of(config, model, loaders)()
    batches = [batch.to(CPU) for batch in loaders.plain]
    with torch.no_grad():
        wanted = torch.cat([model.encode_neck(b.images, b.camids, b.viewids) for b in batches])
        without = torch.cat([model.encode_neck(b.images) for b in batches])
    assert torch.allclose(images.features, wanted, atol=1e-5)
    assert not torch.allclose(images.features, without, atol=1e-2)


def test_prototypes_are_built_before_an_epoch_and_move_with_its_steps(setting, caplog):
    config, model, loaders, _ = setting("toy-vit", cfg_pcl)
    loss = make_loss(config, 4)
    features = features_of(config, model, loaders)
    objective = with_prototypes(ImageObjective(model, loss, accuracy=False), loss.memory, features)
    with caplog.at_level(logging.INFO):
        objective.begin_epoch(1)
    assert caplog.messages[-2:] == [
        "Memory has 4 classes.",
        f"Create memory bank with shape = torch.Size([4, {model.feature_width}])",
    ]
    assert objective.training and model.training
    built = loss.memory.prototypes.clone()
    assert torch.allclose(built, naive_prototypes(features(), 4), atol=1e-6)
    objective.train()
    batch = next(iter(loaders.train)).to(CPU)
    step = objective(batch)
    assert set(step.losses) == {"id", "pcl"} and not step.report and step.samples == 4
    assert torch.equal(loss.memory.prototypes, built)
    objective.after_step()
    moved = (loss.memory.prototypes != built).any(dim=1)
    assert set(moved.nonzero().flatten().tolist()) == set(batch.pids.tolist())


def test_without_a_memory_an_objective_stays_as_it_is(setting):
    config, model, _, _ = setting("toy-vit", cfg_base)
    objective = ImageObjective(model, make_loss(config, 4))
    assert with_prototypes(objective, None, None) is objective


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("recipe", TREES)
def test_every_recipe_can_have_prototypes(setting, tower, recipe):
    config, model, loaders, run = setting(tower, TREES[recipe], *PROTOTYPES, "MAIN.EVAL_PERIOD", 2)
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    for stage in METHODS[recipe].stages(config, Parts(make_dataset(config), model, loaders, None), run):
        fit(replace(stage, plan=replace(stage.plan, eval_period=None)), run)
    objective = stage.objective
    assert isinstance(objective, Refreshed) and len(objective.parts[0].memory.prototypes) == 4
    assert "memory.prototypes" in {name.removeprefix("objective.loss.") for name in objective.state_dict()}
    assert not any("prototypes" in name for name in model.state_dict())
    assert not torch.equal(model.bottleneck.weight, before["bottleneck.weight"])


def test_pcl_trains_all_but_the_patches_and_the_neck_biases(setting):
    config, model, loaders, run = setting("toy-vit", cfg_pcl, "MODEL.SIE_CAMERA", True)
    plan = replace(make_plan(config, "main"), eval_period=None)
    (stage,) = one_stage("pcl", training_of(config, model, loaders), plan, accuracy=False)
    assert (stage.name, stage.suffix, stage.sampler) == ("pcl", "", loaders.train.batch_sampler)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fit(stage, run)
    stayed = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert stayed == {"image_encoder.conv1.weight", "bottleneck.bias", "bottleneck_proj.bias"}
