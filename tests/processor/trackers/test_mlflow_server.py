"""Runs at a real server of MLflow, which is killed, and runs that are killed themselves."""

import json

import pytest

from tests.processor import running
from tests.processor.running import EVERY_STEP, OFTEN, Killed, assert_same_run, at_call, kill_at_step, last
from tests.processor.trackers.servers import Server, files_of, history, runs_at

pytestmark = pytest.mark.service

STEPS = ("SOLVER.STAGE1.LOG_PERIOD", 1, "SOLVER.STAGE2.LOG_PERIOD", 1)


@pytest.fixture(scope="module")
def any_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def server(any_server):
    """It runs, whatever the test before has done."""
    any_server.start()
    return any_server


@pytest.fixture
def pairs(any_server, tmp_path):
    """pairs('name') -> what a run has in the folder of that name, and in an experiment of the test's own."""

    def of(name, *more):
        log = ("LOG.TRACKER", "mlflow", "LOG.URI", any_server.uri, "LOG.EXPERIMENT", tmp_path.name)
        return (*OFTEN, *STEPS, *log, "LOG.PICTURES_EVERY", 1, "OUTPUT_DIR", str(tmp_path / name), *more)

    return of


def assert_whole(server, folder, experiment):
    """The server has what metrics.jsonl has, each step once, and the files."""
    runs = runs_at(server.uri, experiment)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for stage in ("stage1", "stage2"):
        run = runs[f"{folder.name}_{stage}"]
        own = [line for line in lines if line["stage"] == stage]
        for name, key in (
            (f"train_loss_{stage}_epoch", "loss"),
            (f"base_lr_{stage}", "lr"),
            ("val_mAP", "mAP"),
            ("val_rank1", "rank1"),
        ):
            assert history(server.uri, run, name) == [
                (line["epoch"], line[key]) for line in own if key in line
            ]
        steps = [number for number, _ in history(server.uri, run, f"train_loss_{stage}_step")]
        assert steps == [1, 2, 3, 4]
        assert run.info.status == "FINISHED" and run.data.params["LOG.EXPERIMENT"] == experiment
    files = files_of(server.uri, run)
    assert "config.yml" in files and "pictures" in files and any(name.endswith(".json") for name in files)
    assert files_of(server.uri, run, "pictures") == [f"pictures/rankings_stage2_{n}.png" for n in (1, 2)]
    return run


def warnings_in(folder):
    lines = (folder / "train_log.txt").read_text().splitlines()
    return [line for line in lines if "tracker" in line and "WARNING" in line]


def test_a_server_that_is_dead_at_first(any_server, pairs, trained, tmp_path):
    """The run ends normally, with one warning; once the server is there --resume sends it."""
    any_server.kill()
    whole = trained("clipreid", *OFTEN, "OUTPUT_DIR", str(tmp_path / "whole"))[1]
    folder = trained("clipreid", *pairs("run"))[1]
    assert_same_run(folder, whole)
    (warning,) = warnings_in(folder)
    assert "mlflow" in warning and "127.0.0.1" in warning
    log = (folder / "train_log.txt").read_text()
    assert "mlflow_queue.jsonl" in log and "--resume" in log
    any_server.start()
    trained("clipreid", *pairs("run"), resume=True)
    assert_whole(any_server, folder, tmp_path.name)
    assert len(warnings_in(folder)) == 1


def test_a_server_that_is_killed_and_comes_back(server, pairs, trained, tmp_path, monkeypatch):
    """It is away from within an epoch of stage 1 to one of stage 2."""
    with monkeypatch.context() as context:
        step = at_call(7, lambda *_: server.start(), running.engine.train_step)
        context.setattr(running.engine, "train_step", at_call(4, lambda *_: server.kill(), step))
        folder = trained("clipreid", *pairs("run"))[1]
    assert_whole(server, folder, tmp_path.name)
    assert len(warnings_in(folder)) == 1
    assert runs_at(server.uri, tmp_path.name).keys() == {"run_stage1", "run_stage2"}


@pytest.mark.parametrize(("often", "moments"), [(EVERY_STEP, (2, 8)), ((), (6,))])
def test_a_run_that_is_killed_goes_on_in_the_same_run(
    server, pairs, trained, tmp_path, monkeypatch, often, moments
):
    for moment in moments:
        given = pairs(f"at_{moment}", *often)
        with monkeypatch.context() as context, pytest.raises(Killed):
            kill_at_step(context, moment)
            context.setattr(
                "processor.trackers.Mlflow.finish", lambda *_: None
            )  # no process ends so politely
            trained("clipreid", *given)
        folder = trained("clipreid", *given, resume=True)[1]
        run = assert_whole(server, folder, tmp_path.name)
        assert last(folder)["trackers"]["mlflow"]["run_stage2"] == run.info.run_id
        assert not warnings_in(folder)
    assert len(runs_at(server.uri, tmp_path.name)) == 2 * len(moments)


def test_checkpoints_are_sent_by_choice(server, pairs, trained, tmp_path):
    folder = trained("clipreid", *pairs("run", "LOG.CHECKPOINTS", True))[1]
    files = files_of(server.uri, runs_at(server.uri, tmp_path.name)["run_stage2"])
    checkpoints = {path.name for path in folder.glob("*.pth") if "stage1" not in path.name}
    assert checkpoints and {name for name in files if name.endswith(".pth")} == checkpoints
