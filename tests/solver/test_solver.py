"""Learning rates of every published epoch, and which parameter learns at which rate."""

import ast

import numpy as np
import pytest
import torch
from torch import nn

from config import cfg, cfg_base, cfg_pcl
from config.load import load_config
from config.stages import ENDLESS, MAIN_STAGE
from solver import make_optimizer, make_schedule
from solver.rules import NameRule, group_parameters
from solver.schedules import multistep_schedule

FILES = [
    f"{folder}_{name}"
    for folder, second in (("person", "clipreid"), ("veri", "prom"), ("VehicleID", "clipreid"))
    for name in (f"cnn_{second}", f"vit_{second}", "cnn_base", "vit_base")
]


@pytest.mark.parametrize("file", FILES)
def test_published_schedules(repository, golden, file):
    folder, name = file.split("_", 1)
    path = str(repository / "configs" / folder / f"{name}.yml")
    config = load_config(cfg_base if "base" in name else cfg, path, [])
    stored = golden("schedules.npz")
    for stage in ("main",) if "base" in name else ("main", "stage1"):
        wanted = stored[f"{file}_{stage}"]
        schedule = make_schedule(config, stage)
        rates = [schedule(epoch) for epoch in range(1, len(wanted) + 1)]
        assert np.abs(np.array(rates) / wanted - 1).max() < 1e-9
        assert schedule(1) == rates[0]  # no state: any epoch can be asked for again
        assert schedule(2.99) == rates[1]  # the same rate in all steps of an epoch


def test_published_schedule_of_pcl(repository):
    """Stepped after the epoch: epoch 1 has index 0."""
    schedule = make_schedule(load_config(cfg_pcl, repository / "configs/pcl/vit_pcl.yml"))
    warmup = [3.5e-5, 6.65e-5, 9.8e-5, 1.295e-4, 1.61e-4, 1.925e-4, 2.24e-4, 2.555e-4, 2.87e-4, 3.185e-4]
    wanted = [*warmup, *[3.5e-4] * 20, *[3.5e-5] * 20, *[3.5e-6] * 10]
    assert [schedule(epoch) for epoch in range(1, 61)] == pytest.approx(wanted, rel=1e-9)


def test_the_schedule_is_chosen_by_key():
    options = ["SOLVER.SCHEDULE", "cosine", "SOLVER.BASE_LR", "1", "SOLVER.LR_MIN", "0"]
    schedule = make_schedule(load_config(cfg_base, "", [*options, "SOLVER.WARMUP_EPOCHS", "0"]))
    assert [schedule(epoch) for epoch in (25, 50, 75)] == pytest.approx([0.853553, 0.5, 0.146447], abs=1e-6)
    options = ["SOLVER.STAGE1.SCHEDULE", "multistep", "SOLVER.STAGE1.WARMUP_ITERS", "0"]
    schedule = make_schedule(load_config(cfg, "", options), "stage1")
    assert [schedule(epoch) for epoch in (39, 40, 70)] == pytest.approx([3e-4, 3e-5, 3e-6])
    with pytest.raises(ValueError, match="SCHEDULE is 'linear'; allowed: cosine, multistep"):
        make_schedule(load_config(cfg_base, "", ["SOLVER.SCHEDULE", "linear"]))


@pytest.mark.parametrize("name", ast.literal_eval(f"[{MAIN_STAGE['SCHEDULE'].rule.allowed}]"))
def test_which_schedules_do_not_depend_on_the_number_of_epochs(name):
    """A finished run goes on to more epochs with these only."""
    rates = []
    for epochs in (12, 24):
        pairs = ["SOLVER.SCHEDULE", name, "SOLVER.MAX_EPOCHS", epochs, "SOLVER.STEPS", [6, 11]]
        schedule = make_schedule(load_config(cfg_base, "", pairs), iterations=3)
        rates.append([schedule(1 + step / 3) for step in range(36)])
    assert (rates[0] == rates[1]) == ENDLESS.holds(name)


def test_decay_of_biases_as_of_all_others():
    layer = nn.Linear(2, 3)
    config = load_config(cfg_base, "", ["SOLVER.WEIGHT_DECAY", "0.25", "SOLVER.WEIGHT_DECAY_BIAS", "-1"])
    (group,) = make_optimizer(config, layer.named_parameters()).param_groups
    assert group["weight_decay"] == 0.25 and len(group["params"]) == 2


def test_multistep_written_out():
    schedule = multistep_schedule(1.0, steps=(3, 5), gamma=0.1, warmup_epochs=2, warmup_factor=0.5)
    assert [schedule(e) for e in range(1, 7)] == pytest.approx([0.75, 1, 0.1, 0.1, 0.01, 0.01])
    constant = multistep_schedule(
        1.0, steps=(), gamma=0.1, warmup_epochs=3, warmup_factor=0.5, warmup_method="constant"
    )
    assert [constant(e) for e in (1, 2, 3)] == [0.5, 0.5, 1.0]


def test_multistep_refuses():
    with pytest.raises(ValueError, match=r"warmup_method is 'cosine'.*allowed"):
        multistep_schedule(1.0, steps=(), gamma=1, warmup_epochs=1, warmup_factor=1, warmup_method="cosine")
    with pytest.raises(ValueError, match=r"steps is \[5, 3\]"):
        multistep_schedule(1.0, steps=(5, 3), gamma=1, warmup_epochs=1, warmup_factor=1)


def parameters():
    model = nn.ModuleDict(
        {"tower": nn.Linear(2, 2), "classifier": nn.Linear(2, 3, bias=False), "neck": nn.Linear(2, 2)}
    )
    model["neck"].bias.requires_grad_(False)
    return list(model.named_parameters())


def rules(optimizer):
    return sorted((g["lr_scale"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups)


def test_groups_are_merged_by_rule():
    options = ["SOLVER.BIAS_LR_FACTOR", "2", "SOLVER.WEIGHT_DECAY", "0.1", "SOLVER.WEIGHT_DECAY_BIAS", "0.2"]
    config = load_config(cfg_base, "", options)
    optimizer = make_optimizer(config, parameters())
    assert isinstance(optimizer, torch.optim.Adam)
    assert rules(optimizer) == [(1.0, 0.1, 3), (2.0, 0.2, 1)]  # the frozen bias is left out
    assert optimizer.param_groups[0]["lr"] == config.SOLVER.BASE_LR
    config = load_config(cfg_base, "", [*options, "SOLVER.LARGE_FC_LR", "True"])
    assert rules(make_optimizer(config, parameters())) == [(1.0, 0.1, 2), (2.0, 0.1, 1), (2.0, 0.2, 1)]


def test_the_first_matching_rule_counts():
    named = parameters()
    name_rules = [NameRule("^tower.*bias$", 0.5, 0.0), NameRule("tower", 1, 0.1), NameRule("", 2, 0.1)]
    groups = group_parameters(named, name_rules, 3.0)
    names = {id(parameter): name for name, parameter in named}
    assert [[names[id(member)] for member in group.pop("params")] for group in groups] == [
        ["tower.weight"],
        ["tower.bias"],
        ["classifier.weight", "neck.weight"],
    ]
    assert groups == [
        {"lr": 3.0, "lr_scale": 1.0, "weight_decay": 0.1},
        {"lr": 1.5, "lr_scale": 0.5, "weight_decay": 0.0},
        {"lr": 6.0, "lr_scale": 2.0, "weight_decay": 0.1},
    ]
    with pytest.raises(ValueError, match=r"no rule for parameter classifier\.weight"):
        group_parameters(named, name_rules[:2], 3.0)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_moments_are_keys(name):
    options = ["SOLVER.OPTIMIZER_NAME", name, "SOLVER.BETAS", "[0.9, 0.98]", "SOLVER.EPS", "1e-6"]
    (group, *_) = make_optimizer(load_config(cfg_base, "", options), parameters()).param_groups
    assert (group["betas"], group["eps"]) == ((0.9, 0.98), 1e-6)


def test_optimizer_by_name():
    config = load_config(cfg_base, "", ["SOLVER.OPTIMIZER_NAME", "SGD", "SOLVER.MOMENTUM", "0.8"])
    optimizer = make_optimizer(config, parameters())
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.8
    config = load_config(cfg_base, "", ["SOLVER.OPTIMIZER_NAME", "Adagrad"])
    with pytest.raises(ValueError, match="OPTIMIZER_NAME is 'Adagrad'; allowed: Adam, AdamW, SGD"):
        make_optimizer(config, parameters())
    frozen = [(name, nn.Parameter(p.detach(), requires_grad=False)) for name, p in parameters()]
    with pytest.raises(ValueError, match="frozen"):
        make_optimizer(config, frozen)
