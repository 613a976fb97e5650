"""What trackers hear of a run, and how it begins beside the file of a former one."""

import json

import pytest
import torch

from processor import make_processor
from processor.engine.trackers import JsonLines
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
