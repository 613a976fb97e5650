"""Rates and parameter groups of the published text search."""

import json

import numpy as np
import pytest
import torch

from config import cfg_tbps
from config.load import load_config
from model import make_text_search_model
from solver import make_iteration_schedule, make_optimizer, make_schedule
from tests.toys import words, write_tower


def schedule_options(geometry):
    iterations, epochs, warmup, base, start, end = geometry
    names = ("MAX_EPOCHS", "WARMUP_EPOCHS", "BASE_LR", "WARMUP_LR_INIT", "LR_MIN")
    values = (int(epochs), int(warmup), float(base), float(start), float(end))
    return int(iterations), words({f"SOLVER.{name}": v for name, v in zip(names, values, strict=True)})


@pytest.mark.parametrize("case", [0, 1])
def test_published_rates_of_every_iteration(golden, case):
    stored = golden("tbps/schedules.npz")
    iterations, options = schedule_options(stored[f"geometry_{case}"])
    config = load_config(cfg_tbps, "", options)
    rate, wanted = make_iteration_schedule(config, iterations), stored[f"rates_{case}"]
    found = np.array([rate(iteration) for iteration in range(len(wanted))])
    assert np.abs(found / wanted - 1).max() < 1e-9
    # The same by the progress of training, as the loop asks for it.
    schedule = make_schedule(config, iterations=iterations)
    places = [divmod(iteration, iterations) for iteration in range(len(wanted))]
    by_progress = [schedule(1 + epoch + done / iterations) for epoch, done in places]
    assert by_progress == found.tolist()


def test_the_peak_comes_twice_and_the_lowest_rate_is_not_reached():
    options = ["SOLVER.MAX_EPOCHS", "3", "SOLVER.WARMUP_EPOCHS", "1", "SOLVER.BASE_LR", "1.0"]
    rate = make_iteration_schedule(
        load_config(cfg_tbps, "", [*options, "SOLVER.WARMUP_LR_INIT", "0.4", "SOLVER.LR_MIN", "0.2"]), 4
    )
    warmup, cosine = [0.4, 0.6, 0.8, 1.0], [0.2 + 0.4 * (1 + np.cos(np.pi * i / 8)) for i in range(8)]
    assert [rate(iteration) for iteration in range(12)] == pytest.approx(warmup + cosine)
    assert rate(3) == rate(4) == 1.0 and rate(11) > 0.2


def test_without_warm_up_the_cosine_is_all():
    config = load_config(cfg_tbps, "", ["SOLVER.WARMUP_EPOCHS", "0", "SOLVER.MAX_EPOCHS", "2"])
    rate = make_iteration_schedule(config, 10)
    assert (rate(0), rate(10)) == pytest.approx((1e-4, (1e-4 + 5e-6) / 2))


@pytest.mark.parametrize("name", ["vit_tbps", "vit_tbps_simplified"])
def test_published_groups(repository, golden_json, tmp_path, name):
    """Names, decay and rate of every parameter, on a narrow tower of the published depth."""
    wanted = golden_json("tbps/groups.json")
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 12}
    vision = {"image_size": 32, "layers": 12, "width": 64, "patch_size": 16}
    tower = write_tower(tmp_path / "narrow.json", text_cfg=text, vision_cfg=vision)
    given = {"MODEL.NAME": tower, "MODEL.PRETRAIN_CHOICE": "none", "MODEL.SIMCLR_MLP": [16, 8, 16]}
    path = repository / f"configs/tbps/{name}.yml"
    config = load_config(cfg_tbps, path, words(given))
    parameters = dict(make_text_search_model(config).named_parameters())
    missing = wanted["not_in_simplified"] if "simplified" in name else []
    assert sorted(parameters) == sorted(set(wanted["parameters"]) - set(missing))

    optimizer = make_optimizer(config, parameters.items())
    assert type(optimizer).__name__ == wanted["optimizer"] and len(optimizer.param_groups) == 2
    group_of = {p: group for group in optimizer.param_groups for p in group["params"]}
    for parameter_name, parameter in parameters.items():
        shape, decay, factor = wanted["parameters"][parameter_name]
        assert parameter.ndim == len(shape)
        if parameter_name == "visual.conv1.weight":
            assert not parameter.requires_grad and parameter not in group_of
            continue
        group = group_of[parameter]
        assert (group["weight_decay"], group["lr_scale"], group["lr"]) == (decay, factor, 1e-4)
        assert (list(group["betas"]), group["eps"]) == (wanted["betas"], wanted["eps"])


@pytest.fixture
def golden_json(repository):
    return lambda name: json.loads((repository / "tests/golden" / name).read_text())


def test_frozen_patches_neither_move_nor_decay(tmp_path):
    given = {"MODEL.NAME": write_tower(tmp_path / "toy.json"), "MODEL.PRETRAIN_CHOICE": "none"}
    given |= {"MODEL.STRIDE_SIZE": [8, 8], "INPUT.SIZE_TRAIN": [32, 16], "INPUT.SIZE_TEST": [32, 16]}
    config = load_config(cfg_tbps, "", words(given | {"MODEL.SIMCLR_MLP": [16, 8, 16]}))
    model = make_text_search_model(config)
    optimizer, before = make_optimizer(config, model.named_parameters()), model.visual.conv1.weight.clone()
    model.encode_image(torch.randn(2, 3, 32, 16)).sum().backward()
    optimizer.step()
    assert model.visual.conv1.weight.grad is None and torch.equal(model.visual.conv1.weight, before)
