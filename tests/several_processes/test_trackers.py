"""Trackers of experiments in a run of several processes: only the first one writes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.processes import ENVIRONMENT
from tests.processor.trackers.events import read_events, scalars, steps
from tests.processor.trackers.servers import files_of, history, runs_at
from tests.toys import words

pytestmark = pytest.mark.slow


def test_one_process_writes(trained):
    log = {"TRACKER": "tensorboard,mlflow", "PICTURES_EVERY": "1", "RUN": "two"}
    pairs = words({f"LOG.{key}": value for key, value in log.items()} | {"SOLVER.LOG_PERIOD": "1"})
    folder = trained(2, "train.py", *pairs)
    place = folder / "baseline/two_baseline"
    for events in (place, place / "steps"):
        assert len(list(events.glob("events.*"))) == 1
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["epoch"], pytest.approx(line["loss"])) for line in lines]
    assert scalars(place)["train_loss_baseline_epoch"] == losses
    assert [number for number, _ in scalars(place / "steps")["train_loss_baseline_step"]] == [*range(1, 7)]
    assert [each.step for each in read_events(place).Images("rankings")] == [2]
    uri = f"sqlite:///{folder}/mlflow.db"
    (run,) = runs_at(uri, "baseline").values()
    assert history(uri, run, "train_loss_baseline_epoch") == losses
    assert [number for number, _ in history(uri, run, "train_loss_baseline_step")] == [*range(1, 7)]
    assert "WARNING" not in (folder / "train_log.txt").read_text()


def test_a_kill_without_a_word(program, run, place, repository):
    """SIGKILL within an epoch: nothing is closed, last.pt is of the epoch before."""
    log = {"LOG.TRACKER": "tensorboard", "LOG.RUN": "killed", "LOG.PICTURES_EVERY": "1"}
    solver = {"SOLVER.LOG_PERIOD": "1", "SOLVER.MAX_EPOCHS": "60", "SOLVER.EVAL_PERIOD": "20"}
    pairs = words(log | solver)
    command = [sys.executable, *program("train.py", "killed", *pairs)]
    metrics = place / "killed/metrics.jsonl"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=repository, env=os.environ | ENVIRONMENT, **quiet) as process:
        while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 25):
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
    events = place / "killed/baseline/killed_baseline"
    before = steps(events / "steps")["train_loss_baseline_step"]
    process = run(1, "train.py", "killed", *pairs, options=["--resume"])
    assert process.returncode == 0, process.stderr
    batches = [json.loads(line)["samples"] // 8 for line in metrics.read_text().splitlines()]
    assert len({*batches}) > 1  # identities with fewer images fill fewer batches
    assert sum(batches[:25]) <= len(before) < sum(batches)
    assert steps(events / "steps")["train_loss_baseline_step"] == [*range(1, sum(batches) + 1)]
    assert steps(events)["train_loss_baseline_epoch"] == [*range(1, 61)]
    assert [each.step for each in read_events(events).Images("rankings")] == [20, 40, 60]


def test_mlflow_after_a_kill_without_a_word(program, run, place, repository):
    """As above, into the file that it makes by itself: one run, each step once."""
    solver = {"SOLVER.LOG_PERIOD": "1", "SOLVER.MAX_EPOCHS": "24", "SOLVER.EVAL_PERIOD": "12"}
    pairs = words({"LOG.TRACKER": "mlflow", "LOG.PICTURES_EVERY": "1"} | solver)
    command = [sys.executable, *program("train.py", "served", *pairs)]
    metrics, uri = place / "served/metrics.jsonl", f"sqlite:///{place}/served/mlflow.db"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=repository, env=os.environ | ENVIRONMENT, **quiet) as process:
        while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 8):
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL and not (errors := process.stderr.read()), errors
    (before,) = runs_at(uri, "baseline").values()
    assert before.info.status == "RUNNING"
    process = run(1, "train.py", "served", *pairs, options=["--resume"])
    assert process.returncode == 0 and not process.stderr, process.stderr
    log = (place / "served/train_log.txt").read_text().splitlines()
    assert {*process.stdout.splitlines()} <= {*log} and not any("WARNING" in line for line in log)
    (after,) = runs_at(uri, "baseline").values()
    assert after.info.run_id == before.info.run_id and after.info.status == "FINISHED"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    losses = history(uri, after, "train_loss_baseline_epoch")
    assert [number for number, _ in losses] == [*range(1, 25)]
    assert [loss for _, loss in losses] == pytest.approx([line["loss"] for line in lines])
    batches = sum(line["samples"] // 8 for line in lines)
    numbers = [number for number, _ in history(uri, after, "train_loss_baseline_step")]
    assert numbers == [*range(1, batches + 1)]
    pictures = files_of(uri, after, "pictures")
    assert pictures == [f"pictures/rankings_baseline_{number}.png" for number in (12, 24)]
    assert not (repository / "mlruns").exists() and not (repository / "mlflow.db").exists()
