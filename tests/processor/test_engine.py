"""The loop: when what is due, what is logged and recorded, at which rates, and which files appear."""

import json
import logging
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from processor.engine import Run, append_record, fit, save_model
from processor.objective import Objective, Step
from processor.stage import Plan, Stage
from retrieval import RetrievalMetrics
from solver.schedules import multistep_schedule
from utils.precision import Precision

METRICS = RetrievalMetrics(np.array([0.5, 0.75, 0.8, 0.9, 0.954]), mAP=0.8964, mINP=0.25, num_valid=7)


class Numbers(NamedTuple):
    values: Tensor
    pids: Tensor

    def to(self, device):
        return self


class Recorder(Objective):
    """Minimises (w - value)² and value · bias, and notes what the loop does to it."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))
        self.events = []

    def begin_epoch(self, epoch):
        self.events.append(f"begin {epoch}")

    def after_step(self):
        self.events.append("stepped")

    def forward(self, batch):
        assert self.training and torch.is_grad_enabled()
        self.events.append(f"{batch.values.mean():g}")
        value = batch.values.mean()
        return Step(
            {"square": (self.weight - value) ** 2, "linear": value * self.bias}, {"acc": value.detach() / 10}
        )


class Loader(list):
    """Batches that note which epoch they were drawn for."""

    def set_epoch(self, epoch):
        self.events.append(f"sampler {epoch}")


def batches(*values, size=4):
    return Loader(Numbers(torch.full((size,), float(value)), torch.zeros(size)) for value in values)


@pytest.fixture
def setting(tmp_path):
    """setting(loader, epochs=5) -> (stage, run), a stage over a Recorder."""

    def build(loader=None, suffix="", schedule=lambda epoch: 0.1 / epoch, **plan):
        objective = Recorder()
        loader = batches(1, 2) if loader is None else loader
        loader.events = objective.events
        groups = [
            {"params": [objective.weight], "lr": 0.0, "lr_scale": 1.0},
            {"params": [objective.bias], "lr": 0.0, "lr_scale": 2.0},
        ]
        options = {"epochs": 2, "batch_size": 4, "log_period": 1, "checkpoint_period": 10} | plan
        plan = Plan(schedule=schedule, make_optimizer=torch.optim.SGD, **options)
        optimizer = torch.optim.SGD(groups, lr=0.0)
        stage = Stage("toy", objective, loader, loader, optimizer, plan, suffix=suffix)
        evaluations = []

        def evaluate():
            evaluations.append(len(objective.events))
            objective.eval()  # as extraction leaves a model
            return METRICS

        run = Run(objective, "ViT-B-16", torch.device("cpu"), tmp_path, evaluate, Precision("cpu"))
        return stage, run, SimpleNamespace(events=objective.events, evaluations=evaluations)

    return build


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def messages(caplog):
    caplog.set_level(logging.INFO, "transreid")
    return lambda: [record.getMessage() for record in caplog.records]


def test_an_epoch_step_by_step(setting):
    stage, run, seen = setting(batches(1, 2))
    fit(stage, run)
    epoch = ["1", "stepped", "2", "stepped"]
    assert seen.events == ["begin 1", "sampler 1", *epoch, "begin 2", "sampler 2", *epoch]


def test_losses_are_summed_and_rates_are_scaled_per_group(setting):
    stage, run, _ = setting(batches(1, 3), epochs=2)
    fit(stage, run)
    weight = bias = 0.0
    for rate in (0.1, 0.05):
        for value in (1.0, 3.0):
            weight -= rate * 2 * (weight - value)
            bias -= 2 * rate * value
    assert stage.objective.weight.item() == pytest.approx(weight, abs=1e-6)
    assert stage.objective.bias.item() == pytest.approx(bias, abs=1e-6)
    assert [group["lr"] for group in stage.optimizer.param_groups] == pytest.approx([0.05, 0.1])


def test_the_schedule_is_asked_for_epochs_from_one(setting, tmp_path):
    rate = multistep_schedule(1e-3, steps=[3], gamma=0.1, warmup_epochs=2, warmup_factor=0.1)
    stage, run, _ = setting(epochs=4, schedule=rate)
    fit(stage, run)
    assert [record["lr"] for record in records(tmp_path)] == pytest.approx([5.5e-4, 1e-3, 1e-4, 1e-4])


@pytest.mark.parametrize(
    ("epochs", "period", "due"),
    [(5, 2, [2, 4, 5]), (4, 2, [2, 4]), (3, 10, [3]), (2, 1, [1, 2]), (1, 1, [1])],
)
@pytest.mark.parametrize("suffix", ["", "_stage1"])
def test_checkpoints_are_due_at_multiples_and_at_the_end(setting, tmp_path, epochs, period, due, suffix):
    stage, run, seen = setting(epochs=epochs, checkpoint_period=period, suffix=suffix)
    fit(stage, run)
    assert checkpoints(tmp_path) == sorted(f"ViT-B-16{suffix}_{epoch}.pth" for epoch in due)
    assert not seen.evaluations


@pytest.mark.parametrize(("period", "due"), [(2, [2, 4, 5]), (10, [5]), (1, [1, 2, 3, 4, 5]), (None, [])])
def test_evaluations_are_due_at_multiples_and_at_the_end(setting, tmp_path, messages, period, due):
    stage, run, seen = setting(epochs=5, eval_period=period)
    fit(stage, run)
    assert len(seen.evaluations) == len(due)
    assert [r["epoch"] for r in records(tmp_path) if "mAP" in r] == due
    titles = [m for m in messages() if m.startswith("Validation")]
    assert titles == [f"Validation Results - Epoch: {epoch}" for epoch in due]


def test_a_checkpoint_is_a_plain_state_dict_of_its_epoch(setting, tmp_path):
    stage, run, _ = setting(epochs=2, checkpoint_period=1)
    fit(stage, run)
    first, last = (torch.load(tmp_path / f"ViT-B-16_{e}.pth", weights_only=True) for e in (1, 2))
    assert set(first) == {"weight", "bias"} and first["weight"] != last["weight"]
    assert torch.equal(last["weight"], stage.objective.weight)
    assert {path.name for path in tmp_path.iterdir()} == {"ViT-B-16_1.pth", "ViT-B-16_2.pth", "metrics.jsonl"}


def test_log_lines_of_an_epoch(setting, messages):
    stage, run, _ = setting(batches(1, 3, 5, 7, 9), epochs=1, log_period=2, schedule=lambda epoch: 1.4e-6)
    fit(stage, run)
    lines = [line for line in messages() if not line.startswith("saved")]
    assert lines[:2] == [
        # Means since the epoch began: losses (1 + 9) / 2 and (1 + 9 + 25 + 49) / 4.
        "Epoch[1] Iteration[2/5] Loss: 5.000, Acc: 0.200, Base Lr: 1.40e-06",
        "Epoch[1] Iteration[4/5] Loss: 21.000, Acc: 0.400, Base Lr: 1.40e-06",
    ]
    pattern = r"Epoch 1 done\. Time per batch: \d+\.\d{3}\[s\] Speed: \d+\.\d\[samples/s\]"
    assert len(lines) == 3 and re.fullmatch(pattern, lines[2])


def test_a_short_epoch_shows_its_loss_once(setting, messages):
    stage, run, _ = setting(batches(1, 3), epochs=2, log_period=50, schedule=lambda epoch: 0.0)
    fit(stage, run)
    shown = [line for line in messages() if "Iteration" in line]
    told = "Iteration[2/2] Loss: 5.000, Acc: 0.200, Base Lr: 0.00e+00"
    assert shown == [f"Epoch[1] {told}", f"Epoch[2] {told}"]


def test_stages_without_accuracy_do_not_show_one(setting, messages):
    stage, run, _ = setting(batches(2), epochs=1, schedule=lambda epoch: 3.5e-4)
    forward = stage.objective.forward
    stage.objective.forward = lambda batch: forward(batch)._replace(report={})
    fit(stage, run)
    assert messages()[0] == "Epoch[1] Iteration[1/1] Loss: 4.000, Base Lr: 3.50e-04"


def test_means_count_samples_not_batches(setting, tmp_path):
    loader = Loader([*batches(1, size=6), *batches(3, size=2)])
    stage, run, _ = setting(loader, epochs=1, schedule=lambda epoch: 0.0)
    fit(stage, run)
    (record,) = records(tmp_path)
    assert record["loss_square"] == pytest.approx((6 * 1 + 2 * 9) / 8) and record["samples"] == 8


def test_records(setting, tmp_path):
    stage, run, _ = setting(epochs=3, eval_period=2)
    fit(stage, run)
    first, second, _ = records(tmp_path)
    trained = {"stage", "epoch", "lr", "loss", "loss_square", "loss_linear", "acc", "seconds", "samples"}
    assert set(first) == trained and (first["stage"], first["epoch"], first["samples"]) == ("toy", 1, 8)
    assert first["loss"] == pytest.approx(first["loss_square"] + first["loss_linear"])
    assert set(second) == trained | {"mAP", "mINP", "rank1", "rank5", "rank10", "num_valid"}
    assert (second["mAP"], second["rank1"], second["rank5"]) == (0.8964, 0.5, 0.954)


def test_records_of_a_second_run_stand_below(setting, tmp_path):
    for _ in range(2):
        stage, run, _ = setting(epochs=1)
        fit(stage, run)
    append_record(run, {"stage": "x", "epoch": 0})
    assert [record["stage"] for record in records(tmp_path)] == ["toy", "toy", "x"]


def test_no_progress_bar_without_a_terminal(setting, capsys):
    stage, run, _ = setting()
    fit(stage, run)
    assert capsys.readouterr() == ("", "")


def test_a_loader_without_batches_is_an_error(setting):
    stage, run, _ = setting(batches())
    with pytest.raises(ValueError, match="toy: the loader gave no batch in epoch 1"):
        fit(stage, run)


def test_a_failed_write_leaves_no_half_checkpoint(setting, tmp_path, monkeypatch):
    _, run, _ = setting()
    monkeypatch.setattr(torch, "save", lambda weights, path: (path.write_bytes(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        save_model(run, "ViT-B-16_1.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_steps_in_half_precision_learn(setting, dtype):
    stage, run, _ = setting(batches(1, 3), epochs=40, schedule=lambda epoch: 0.1)
    fit(stage, replace(run, precision=Precision("cpu", dtype)))
    assert stage.objective.weight.item() == pytest.approx(2.0, abs=0.3)


def test_a_scaled_step_with_an_infinite_gradient_is_left_out(setting):
    stage, run, _ = setting(batches(1, float("inf"), 1), epochs=1, schedule=lambda epoch: 0.1)
    fit(stage, replace(run, precision=Precision("cpu", torch.float16)))
    expected = 0.2 + 0.1 * 2 * (1 - 0.2)
    assert stage.objective.weight.item() == pytest.approx(expected, abs=1e-3)


def test_the_objective_is_prepared_once_before_it_begins(setting):
    stage, run, seen = setting()
    stage.objective.prepare = lambda precision: seen.events.append(f"prepare {precision.dtype}")
    fit(stage, run)
    assert seen.events[:2] == ["prepare torch.float32", "begin 1"]
    assert sum(event.startswith("prepare") for event in seen.events) == 1


def test_compiled_steps_are_asked_for(setting, monkeypatch):
    asked = []
    monkeypatch.setattr(Recorder, "compile", lambda self: asked.append(self), raising=False)
    for compiled in (False, True):
        stage, run, _ = setting(compile=compiled)
        fit(stage, run)
        assert asked == [stage.objective] * compiled
