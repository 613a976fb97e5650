"""MLflow, in a file: pictures, cards and checkpoints."""

import contextlib
import logging

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.processor.trackers.servers import epoch, files_of

LOGGER = "transreid.trackers"


def test_pictures_cards_and_checkpoints(make, found, database, tmp_path):
    (tmp_path / "old_1.pth").write_bytes(b"of a former run")
    (tmp_path / "old_1.json").write_text("{}")
    trackers = {checkpoints: make(checkpoints=checkpoints) for checkpoints in (False, True)}
    for name in ("vit_1", "vit_best"):
        (tmp_path / f"{name}.pth").write_bytes(b"weights")
        (tmp_path / f"{name}.json").write_text("{}")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(b"picture")
    trackers[False].log(epoch(1))
    trackers[False].show("rankings", tmp_path / "pictures/a.png", epoch(1))
    run = found()["mine_stage2"]
    assert files_of(database, run) == ["config.yml", "pictures", "vit_1.json", "vit_best.json"]
    assert files_of(database, run, "pictures") == ["pictures/a.png"]
    trackers[True].experiment.output_dir.joinpath("mlflow_queue.jsonl").unlink()
    trackers[True].log(epoch(1, "stage1"))
    files = files_of(database, found()["mine_stage1"])
    assert files == [
        "config.yml",
        *(f"vit_{name}.{kind}" for name in ("1", "best") for kind in ("json", "pth")),
    ]


def test_a_file_that_is_gone_is_said(make, tmp_path, caplog):
    tracker = make()
    with caplog.at_level(logging.INFO, LOGGER):
        tracker.log(epoch(1))
        tracker.show("rankings", tmp_path / "gone.png", epoch(1))
        tracker.finish("finished")
    assert "gone.png" in caplog.text


def test_numbers_do_not_wait_for_files(make, found, monkeypatch, tmp_path):
    tracker = make()
    (tmp_path / "a.png").write_bytes(b"picture")

    def broken(*args):
        raise ModuleNotFoundError("boto3")

    with monkeypatch.context() as context:
        context.setattr(tracker.runs.client, "log_artifact", broken)
        for number in (1, 2):
            with pytest.raises(ModuleNotFoundError):
                tracker.log(epoch(number))
                tracker._send(now=True)
            assert found()["mine_stage2"].data.metrics["train_loss_stage2_epoch"] == 1.0 / number
        with pytest.raises(ModuleNotFoundError):
            tracker.show("rankings", tmp_path / "a.png", epoch(2))
            tracker._send(now=True)
    state = tracker.state()
    assert state["sent"] < state["length"]
    again = make(state)
    again.finish("finished")
    run = found()["mine_stage2"]
    assert files_of(again.runs.experiment.uri, run) == ["a.png", "config.yml"]


def test_a_file_that_is_refused_keeps_nothing_back(make, found, database, monkeypatch, tmp_path, caplog):
    """Not the other files, and not the end of the run; it is counted."""
    caplog.set_level(logging.INFO, LOGGER)
    tracker = make()
    monkeypatch.setattr(tracker._files_wait, "after_errors", contextlib.nullcontext)
    send = MlflowClient.log_artifact
    monkeypatch.setattr(
        MlflowClient,
        "log_artifact",
        lambda self, run, path, folder=None: (
            refuse() if path.endswith("config.yml") else send(self, run, path, folder)
        ),
    )
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(b"picture")

    def refuse():
        raise MlflowException("413")

    with pytest.raises(MlflowException):
        tracker.log(epoch(1))
    for number in (1, 2):
        with pytest.raises(MlflowException):
            tracker.show("a", tmp_path / f"{number}.png", epoch(1))
    with pytest.raises(MlflowException):
        tracker.finish("finished")
    run = found()["mine_stage2"]
    assert files_of(database, run) == ["1.png", "2.png"] and run.info.status == "FINISHED"
    assert "0 lines and 1 files" in caplog.text
