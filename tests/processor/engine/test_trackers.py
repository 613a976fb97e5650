"""What trackers hear of a run, and how it begins beside the file of a former one."""

import json
import time

import pytest
import torch

from processor import make_processor
from processor.engine.loop import fit
from processor.engine.resume import read_snapshot
from processor.engine.trackers import JsonLines
from tests.processor.recorder import Loader, batches, recorded_stage
from tests.processor.running import last, records


class Heard(JsonLines):
    """Notes its calls besides."""

    name = "heard"
    calls: list

    def start(self, config, environment):
        self.calls.append(("start", config["SOLVER.SEED"], "torch" in environment))

    def rewind(self, state):
        self.calls.append(("rewind", state["bytes"] > 0))

    def finish(self, status):
        self.calls.append(("finish", status))


@pytest.fixture
def heard(monkeypatch):
    calls = []
    monkeypatch.setattr(make_processor, "JsonLines", type("Mine", (Heard,), {"calls": calls}))
    return calls


def test_a_run_that_finishes_and_one_that_resumes(trained, heard):
    _, folder = trained("baseline", "SOLVER.SEED", 7)
    assert heard == [("start", 7, True), ("finish", "finished")]
    assert last(folder)["trackers"]["heard"]["bytes"] == (folder / "metrics.jsonl").stat().st_size
    trained("baseline", "SOLVER.SEED", 7, resume=True)
    assert heard[2:] == [("start", 7, True), ("rewind", True), ("finish", "finished")]


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "failed"), (SystemExit, "stopped"), (KeyboardInterrupt, "stopped")]
)
def test_a_run_that_ends_early(trained, heard, monkeypatch, error, status):
    def end(*_):
        raise error

    monkeypatch.setattr("processor.make_recipes.make_loss", end)
    with pytest.raises(error):
        trained("baseline")
    assert heard[-1] == ("finish", status)


def test_a_former_run_is_put_aside_before_the_first_evaluation(trained, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    _, folder = trained("baseline")
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr("processor.make_evaluation.extract_streams", interrupt)
        trained("baseline", "TEST.EVAL_BEFORE_TRAINING", True)
    assert not (folder / "last.pt").exists() and (folder / "last.former.pt").exists()


def test_a_restart_by_torchrun_beside_a_file_of_another_version(trained, monkeypatch, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    torch.save({"format": 1}, folder / "last.pt")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    trained("baseline")
    assert [record["epoch"] for record in records(folder)] == [1, 2] and (folder / "last.former.pt").exists()
    assert "has format 1; allowed" in (folder / "train_log.txt").read_text()


def test_values_that_json_cannot_hold_are_left_out(tmp_path):
    JsonLines(tmp_path).log({"stage": "x", "epoch": 1, "loss": float("nan"), "acc": 0.5})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"stage": "x", "epoch": 1, "acc": 0.5}


# ---- records


class Steps(JsonLines):
    """Notes the records that it gets."""

    def __init__(self, folder):
        super().__init__(folder)
        self.epochs, self.steps = [], []

    def log(self, record):
        super().log(record)
        self.epochs.append(record)

    def log_step(self, record):
        self.steps.append(record)


def noted(folder, loader, snapshot=None, **plan):
    """The tracker of a stage that has been trained, and its saver."""
    stage, run, _ = recorded_stage(folder, loader, **plan)
    run.saver.trackers = (Steps(folder),)
    fit(stage, run, snapshot)
    return run.saver.trackers[0]


def test_a_step_has_its_own_numbers_and_its_place(tmp_path):
    tracker = noted(tmp_path, batches(1, 3, 5, 7, 9), log_period=2, schedule=lambda progress: 0.0)
    places = [(line["epoch"], line["iteration"], line["step"]) for line in tracker.steps]
    assert places == [(1, 2, 2), (1, 4, 4), (2, 2, 7), (2, 4, 9)]
    first = {key: value for key, value in tracker.steps[0].items() if key not in ("time", "epoch")}
    numbers = {"loss": 9.0, "loss_square": 9.0, "loss_linear": 0.0, "acc": pytest.approx(0.3), "lr": 0.0}
    assert first == {"stage": "toy", "iteration": 2, "step": 2, **numbers}


def test_steps_are_counted_where_epochs_differ_in_length_and_a_run_goes_on(tmp_path):
    class Shorter(Loader):
        def set_epoch(self, epoch, start=0):
            super().set_epoch(epoch, start)
            self[:] = self[: 4 - epoch]

    def loader():
        return Shorter(batches(1, 2, 3))

    whole = noted(tmp_path, loader(), epochs=3)
    assert [line["step"] for line in whole.steps] == [1, 2, 3, 4, 5, 6]
    saved = []
    stage, run, _ = recorded_stage(tmp_path, loader(), epochs=3, every=1e-9)
    save = run.saver.save
    run.saver.save = lambda *args: (save(*args), saved.append(read_snapshot(tmp_path / "last.pt")))
    fit(stage, run)
    middle = next(
        each for each in saved if each.progress and str(each.progress) == "toy, epoch 2, iteration 1"
    )
    assert middle.progress.steps == 3
    assert [line["step"] for line in noted(tmp_path, loader(), middle, epochs=3).steps] == [5, 6]


def test_records_have_the_time_that_the_file_has(tmp_path):
    before = time.time()
    tracker = noted(tmp_path, batches(1, 2), eval_period=1)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    times = [json.loads(line)["time"] for line in lines]
    assert times == [record["time"] for record in tracker.epochs]
    assert before - 1 < times[0] <= times[1] <= time.time() + 1
    assert all(round(each, 3) == each for each in times)
