"""MLflow, in a file: runs, names, files, what comes twice, and what cannot be sent."""

import errno
import json
import logging
import os
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from processor.trackers import Experiment, Guarded, Mlflow
from tests.processor.trackers.servers import epoch, files_of, history, runs_at, step
from utils.lock import locked

LOGGER = "transreid.trackers"
DEAD = "http://127.0.0.1:9"


def test_each_stage_is_a_run_with_its_settings(make, found, database):
    tracker = make()
    tracker.log(epoch(1, "stage1"))
    tracker.log_step(step(20, lr=0.5))
    tracker.log(epoch(1, rank1=0.5, loss_id=2.0, loss_x=float("nan")))
    tracker.finish("stopped")
    runs = found()
    assert {name: run.info.status for name, run in runs.items()} == {
        "mine_stage1": "FINISHED",
        "mine_stage2": "KILLED",
    }
    run = runs["mine_stage2"]
    assert run.data.metrics == {
        "train_loss_stage2_step": 20.0,
        "lr_stage2_step": 0.5,
        "train_loss_stage2_epoch": 1.0,
        "base_lr_stage2": 0.1,
        "val_rank1": 0.5,
        "loss_id_stage2_epoch": 2.0,
    }
    assert history(database, run, "train_loss_stage2_step") == [(20, 20.0)]
    assert run.data.params == {"A.B": "x", "C": ""} and run.data.tags["environment.torch"] == "2"
    assert files_of(database, run) == ["config.yml"]


def test_many_settings_and_long_ones(make, found):
    tracker = make(config={f"K.{number}": "y" * 7000 if number == 3 else number for number in range(250)})
    tracker.log(epoch(1))
    params = found()["mine_stage2"].data.params
    assert len(params) == 250 and params["K.249"] == "249" and 5000 < len(params["K.3"]) <= 6000
    assert params["K.3"].startswith("yyy") and "…" in params["K.3"]


# ---- what comes twice


def test_what_is_trained_again_is_shown_once(make, found, database):
    """Killed after epoch 3 and step 30, the run goes on from epoch 2, whose steps are there."""
    tracker = make()
    states = []
    for number in (1, 2, 3):
        tracker.log_step(step(10 * number))
        tracker.log(epoch(number))
        states.append(tracker.state())
    again = make(states[0])
    for number in (2, 3, 4):
        again.log_step(step(10 * number))
        again.log(epoch(number, loss=9.0, extra=1.0))
    again.finish("finished")
    (run,) = found().values()
    assert [number for number, _ in history(database, run, "train_loss_stage2_step")] == [10, 20, 30, 40]
    assert history(database, run, "train_loss_stage2_epoch") == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 9.0)]
    assert [number for number, _ in history(database, run, "extra_stage2_epoch")] == [2, 3, 4]
    assert run.info.status == "FINISHED" and run.info.run_id == states[0]["run_stage2"]


def test_a_run_that_began_after_the_last_save_is_found_again(make, found, database):
    tracker = make()
    state = tracker.state()
    assert not any(name.startswith("run_") for name in state)
    tracker.log(epoch(1))
    again = make(state)
    again.log(epoch(1))
    again.log(epoch(2))
    (run,) = found().values()
    assert [number for number, _ in history(database, run, "train_loss_stage2_epoch")] == [1, 2]


def test_an_answer_that_got_lost_makes_no_second_run(make, found, database, monkeypatch):
    """The server did what was asked, and the connection broke before it said so."""
    tracker = make()
    client = tracker.runs.client
    for name in ("create_run", "log_batch", "log_artifact"):

        def without_answer(*args, name=name, **options):
            monkeypatch.delattr(client, name)
            getattr(client, name)(*args, **options)
            raise ConnectionError(name)

        monkeypatch.setattr(client, name, without_answer)
        with pytest.raises(ConnectionError, match=name):
            tracker._send(now=True) if name != "create_run" else tracker.log(epoch(1))
    tracker.log(epoch(2))
    tracker.finish("finished")
    (run,) = found().values()
    assert [number for number, _ in history(database, run, "train_loss_stage2_epoch")] == [1, 2]
    assert files_of(database, run) == ["config.yml"]


def test_runs_that_are_not_there_are_sent_as_a_whole(make, found, database, caplog):
    """last.pt and the queue came to a machine whose database is another."""
    tracker = make()
    tracker.log_step(step(1))
    tracker.log(epoch(1))
    lost = {"training": uuid4().hex, "run_stage2": uuid4().hex}
    with caplog.at_level(logging.INFO, LOGGER):
        again = make(tracker.state() | lost)
        again.log(epoch(2))
    MlflowClient(database).delete_run(tracker.runs.ids["stage2"])
    again.finish("finished")
    (run,) = found().values()
    assert [number for number, _ in history(database, run, "train_loss_stage2_epoch")] == [1, 2]
    assert history(database, run, "train_loss_stage2_step") == [(1, 1.0)] and "whole" in caplog.text
    assert run.info.status == "FINISHED" and again.state()["run_stage2"] == run.info.run_id


def test_a_second_run_in_the_folder_is_another(make, database, tmp_path):
    for _ in range(2):
        tracker = make()
        tracker.log(epoch(1))
        tracker.finish("finished")
    client = MlflowClient(database)
    runs = client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id])
    for run in runs:
        assert history(database, run, "train_loss_stage2_epoch") == [(1, 1.0)]
    assert len(runs) == 2 and (tmp_path / "mlflow_queue.jsonl").read_text().count("\n") == 1


def test_settings_that_changed_are_tags(make, found, caplog):
    tracker = make()
    tracker.log(epoch(1))
    for value in ("y", "z", "x"):
        with caplog.at_level(logging.INFO, LOGGER):
            tracker = make(tracker.state(), config={"A.B": value, "C": "", "NEW": 5})
            tracker.log(epoch(2))
        run = found()["mine_stage2"]
        assert run.data.params == {"A.B": "x", "C": "", "NEW": "5"}
        assert run.data.tags["resumed.A.B"] == value and "resumed.C" not in run.data.tags
    assert sum("A.B" in each.getMessage() for each in caplog.records) == 3


def test_another_address_gets_the_whole_run(make, found, database, tmp_path):
    tracker = make(uri="")
    tracker.log(epoch(1))
    tracker.log(epoch(2))
    moved = make(tracker.state())
    moved.log(epoch(3))
    assert [number for number, _ in history(database, found()["mine_stage2"], "train_loss_stage2_epoch")] == [
        *(1, 2, 3),
    ]
    own = runs_at(f"sqlite:///{tmp_path}/mlflow.db", tmp_path.name)["mine_stage2"]
    assert own.info.artifact_uri.startswith((tmp_path / "mlartifacts").as_uri())
    assert (tmp_path / "mlartifacts" / own.info.run_id / "artifacts/config.yml").is_file()


@pytest.mark.parametrize("left", ["", '{"stage":"stage2","step":1,"time":1.0,"metrics":{"a":1.0}}\n'])
def test_a_queue_that_lost_lines_is_no_obstacle(make, found, tmp_path, left):
    tracker = make()
    tracker.log(epoch(1))
    state = tracker.state()
    (tmp_path / "mlflow_queue.jsonl").write_text(left)
    again = make(state)
    again.log(epoch(2))
    again.finish("finished")
    assert found()["mine_stage2"].info.status == "FINISHED"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"stage":"a","file":"../../x"}', "file"),
        ('{"stage":"a","file":"/etc/passwd"}', "file"),
        ('{"stage":"a","step":-1}', "step"),
        ('{"step":1}', "stage"),
    ],
)
def test_a_queue_of_others_is_checked(make, tmp_path, line, told):
    tracker = make()
    state = tracker.state() | {"length": len(line) + 1}
    (tmp_path / "mlflow_queue.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=told) as caught:
        make(state).log(epoch(1))
    assert "mlflow_queue.jsonl" in str(caught.value)


def test_a_state_of_others_is_checked(make):
    with pytest.raises(ValueError, match=r"mlflow.*length"):
        make(make().state() | {"length": -5})
    make({}).log(epoch(1))  # of a save in which the tracker failed


# ---- what cannot be sent


def test_a_dead_server_costs_no_time_and_loses_nothing(make, found, database, tmp_path, caplog):
    tracker = Guarded(Mlflow(Experiment(tmp_path, tmp_path.name, "mine", DEAD)))
    tracker.start({"A.B": "x"}, {})
    began = time.monotonic()
    for number in range(1, 21):
        tracker.log_step(step(number))
        tracker.log(epoch(number))
    assert time.monotonic() - began < 20  # an epoch takes much less than a second
    state = tracker.state()
    with caplog.at_level(logging.INFO, LOGGER):
        tracker.finish("finished")
    (warning,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "mlflow" in warning.getMessage() and "127.0.0.1" in warning.getMessage()
    (left,) = [each.getMessage() for each in caplog.records if each.levelname == "INFO"]
    assert " 40 lines " in left and "mlflow_queue.jsonl" in left
    again = make(state)
    again.finish("finished")
    run = found()["mine_stage2"]
    for name in ("train_loss_stage2_epoch", "train_loss_stage2_step"):
        assert [number for number, _ in history(database, run, name)] == [*range(1, 21)]
    assert run.info.status == "FINISHED"


def test_after_an_error_it_is_left_alone_for_a_while(make, monkeypatch):
    now, calls = [1000.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tracker = make()

    def slow(*args):
        calls.append(now[0])
        now[0] += 5
        raise TimeoutError

    monkeypatch.setattr(tracker.runs, "open", slow)
    for _ in range(600):
        now[0] += 1
        try:
            tracker.log_step(step(1))
        except TimeoutError:
            continue
    assert 1 < len(calls) <= 3 and calls[1] - calls[0] > 400
    with pytest.raises(TimeoutError):
        tracker.finish("finished")  # however soon after


def test_a_full_disk_loses_no_more_than_what_came_then(make, found, database, monkeypatch, caplog):
    tracker = Guarded(make())
    with monkeypatch.context() as context:

        def full(*args):
            raise OSError(errno.ENOSPC, "No space left on device")

        context.setattr(os, "write", full)
        tracker.log(epoch(1))
    for number in (2, 3):
        tracker.log(epoch(number))
    tracker.finish("finished")
    (run,) = found().values()
    assert [number for number, _ in history(database, run, "train_loss_stage2_epoch")] == [2, 3]
    assert "mlflow_queue.jsonl" in caplog.text and "No space" in caplog.text


def test_it_waits_while_another_makes_the_tables(make, database, monkeypatch):
    lock = Path(database.removeprefix("sqlite:///") + ".lock")
    with monkeypatch.context() as context, ExitStack() as other:
        other.enter_context(locked(lock))
        context.setattr(time, "sleep", lambda _: other.close())
        make().log(epoch(1))
        assert not lock.exists()


def test_another_process_may_make_the_experiment(make, database, monkeypatch, tmp_path):
    other = MlflowClient(database).create_experiment(tmp_path.name)
    answers = [None, MlflowClient(database).get_experiment(other)]
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda *_: answers.pop(0))
    assert make().runs.group == other


def test_a_damaged_database_is_an_error_at_once(make, tmp_path):
    (tmp_path / "mlflow.db").write_text("no database" * 100)
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"mlflow\.db") as caught:
        make(uri="")
    assert time.monotonic() - began < 10 and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="unable to open"):
        make(uri=f"sqlite:///{tmp_path}/nowhere/mlflow.db")


def test_a_deleted_experiment_is_named(make, database, tmp_path):
    tracker = make()
    MlflowClient(database).delete_experiment(tracker.runs.group)
    with pytest.raises((ValueError, MlflowException), match="deleted") as caught:
        make()
    assert tmp_path.name in str(caught.value)


# ---- addresses


def test_making_one_reads_and_writes_nothing(tmp_path):
    Mlflow(Experiment(tmp_path / "nowhere", "a", "b", DEAD))
    assert not [*tmp_path.iterdir()]


def test_lines_of_the_queue_are_json(make, tmp_path):
    make().log(epoch(3))
    (line,) = map(json.loads, (tmp_path / "mlflow_queue.jsonl").read_text().splitlines())
    assert line["step"] == 3 and line["metrics"]["base_lr_stage2"] == 0.1
