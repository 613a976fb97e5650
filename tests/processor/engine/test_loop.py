"""The loop: when what is due, what is logged and recorded, at which rates, and which files appear."""

import json
import logging
import re
from dataclasses import replace
from functools import partial

import pytest
import torch

from processor.engine.journal import save_model
from processor.engine.loop import fit
from processor.engine.resume import Saver, read_snapshot
from processor.engine.trackers import JsonLines
from solver.schedules import multistep_schedule
from tests.processor.recorder import Loader, Recorder, batches, recorded_stage
from utils.precision import Precision


@pytest.fixture
def setting(tmp_path):
    """setting(loader, epochs=5) -> (stage, run, what happens), a stage over a Recorder."""
    return partial(recorded_stage, tmp_path)


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
    written = {"ViT-B-16_1.pth", "ViT-B-16_2.pth", "metrics.jsonl", "last.pt"}
    assert {path.name for path in tmp_path.iterdir()} == written


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
    assert messages()[1] == "Epoch[1] Iteration[1/1] Loss: 4.000, Base Lr: 3.50e-04"


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
    trained.add("time")
    assert set(first) == trained and (first["stage"], first["epoch"], first["samples"]) == ("toy", 1, 8)
    assert first["loss"] == pytest.approx(first["loss_square"] + first["loss_linear"])
    assert set(second) == trained | {"mAP", "mINP", "rank1", "rank5", "rank10", "num_valid"}
    assert (second["mAP"], second["rank1"], second["rank5"]) == (0.8964, 0.5, 0.954)


def test_records_of_a_second_run_stand_below(setting, tmp_path):
    for _ in range(2):
        stage, run, _ = setting(epochs=1)
        fit(stage, run)
    JsonLines(tmp_path).log({"stage": "x", "epoch": 0})
    assert [record["stage"] for record in records(tmp_path)] == ["toy", "toy", "x"]


def test_no_progress_bar_without_a_terminal(setting, capsys):
    stage, run, _ = setting()
    fit(stage, run)
    assert capsys.readouterr() == ("", "")


def test_an_epoch_without_batches_where_a_stage_may_have_one(setting, tmp_path, caplog):
    stage, run, seen = setting(batches(), eval_period=2)
    with caplog.at_level(logging.INFO):
        fit(replace(stage, may_skip=True), run)
    skipped = [text for text in caplog.messages if "without a batch" in text]
    assert skipped == [f"Epoch {epoch} done, without a batch" for epoch in (1, 2)]
    assert [line["samples"] for line in records(tmp_path)] == [0, 0]
    assert "loss" not in records(tmp_path)[0] and "mAP" in records(tmp_path)[1]
    assert "stepped" not in seen.events


def test_a_loader_without_batches_is_an_error(setting):
    stage, run, _ = setting(batches())
    with pytest.raises(ValueError, match="toy: the loader gave no batch in epoch 1"):
        fit(stage, run)


def test_a_failed_write_leaves_no_half_checkpoint(setting, tmp_path, monkeypatch):
    _, run, _ = setting()
    monkeypatch.setattr(torch, "save", lambda weights, file: (file.write(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        save_model(run.model, tmp_path / "ViT-B-16_1.pth")
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


# ---- where a run goes on


@pytest.fixture
def saved(monkeypatch, tmp_path):
    """What each `last.pt` held that was written."""
    snapshots, save = [], Saver.save

    def noted(self, stage, progress):
        save(self, stage, progress)
        snapshots.append(read_snapshot(tmp_path / "last.pt"))

    monkeypatch.setattr(Saver, "save", noted)
    return snapshots


def places(snapshots):
    return [snap.progress and (snap.progress.epoch, snap.progress.iteration) for snap in snapshots]


def test_last_pt_is_saved_at_the_start_before_an_evaluation_and_after_each_epoch(setting, saved):
    stage, run, _ = setting(batches(1, 2, 3), epochs=3, eval_period=2)
    fit(stage, run)
    assert places(saved) == [(1, 0), (2, 0), (2, 3), (3, 0), (3, 3), None]
    assert [snapshot.finished for snapshot in saved] == [()] * 5 + [("toy",)]
    assert "toy, epoch 2, iteration 3" in str(saved[2].progress)


def test_last_pt_is_saved_when_its_time_comes(setting, saved):
    stage, run, _ = setting(batches(1, 2), epochs=2, every=1e-9)
    fit(stage, run)
    assert places(saved) == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), None]


def test_a_stage_goes_on_within_an_epoch(setting, saved, tmp_path):
    stage, run, seen = setting(batches(1, 2, 3), epochs=2, every=1e-9)
    fit(stage, run)
    wanted, lines = stage.objective.state_dict(), records(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    again, run, seen = setting(batches(1, 2, 3), epochs=2)
    saved[2].restore_model(again.objective)
    fit(again, run, saved[2])
    # The epoch has begun already.
    rest = ["begin 2", "sampler 2", *(["1", "stepped", "2", "stepped", "3", "stepped"])]
    assert seen.events == ["sampler 1 from 2", "3", "stepped", *rest]
    assert again.objective.state_dict() == wanted
    for line, other in zip(records(tmp_path), lines, strict=True):
        assert {**line, "seconds": 0, "time": 0} == {**other, "seconds": 0, "time": 0}


def test_what_is_not_trained_asks_for_no_gradient(setting):
    stage, run, _ = setting()
    stage.optimizer.param_groups.pop()
    asked = []
    forward = stage.objective.forward
    stage.objective.forward = lambda batch: asked.append(stage.objective.bias.requires_grad) or forward(batch)
    fit(stage, run)
    assert asked == [False] * 4 and stage.objective.bias.requires_grad and not stage.objective.bias.item()


def test_checkpoints_beyond_the_newest_are_removed(setting, tmp_path):
    for other in ("ViT-B-16_7.pth", "ViT-B-16_stage1_1.pth", "ViT-B-16_best.pth"):  # of other runs, stages
        (tmp_path / other).touch()
    stage, run, _ = setting(epochs=5, checkpoint_period=1)
    fit(stage, replace(run, keep=2))
    others = ["ViT-B-16_7.pth", "ViT-B-16_best.pth", "ViT-B-16_stage1_1.pth"]
    assert checkpoints(tmp_path) == ["ViT-B-16_4.pth", "ViT-B-16_5.pth", *others]
