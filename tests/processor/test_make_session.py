"""A folder belongs to one training run and one test at a time."""

import argparse
import errno
import os
import re

import pytest

from tests.processor.running import OFTEN, assert_same_run, kill_at_step, records, run_test
from utils.lock import locked

ARGS = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[])


@pytest.mark.slow
@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_in_a_folder_is_refused_and_the_first_untouched(trained, monkeypatch, tmp_path, resume):
    whole = trained("clipreid", *OFTEN, "OUTPUT_DIR", str(tmp_path / "whole"))[1]
    folder, told = tmp_path / "run", []

    def second(*_):
        before = {path: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(OSError) as caught:
            trained("clipreid", *OFTEN, resume=resume)
        told.append(str(caught.value))
        assert {path: path.read_bytes() for path in folder.iterdir()} == before

    kill_at_step(monkeypatch, 6, second)
    trained("clipreid", *OFTEN)
    named = rf"OUTPUT_DIR {re.escape(str(folder))} is in use by process {os.getpid()} on .* since 20"
    assert re.match(named, told[0])
    assert_same_run(folder, whole)
    assert len(records(folder)) == len(records(whole))


@pytest.mark.slow
def test_a_test_runs_beside_training_but_not_beside_a_test(trained, toy_config, tmp_path):
    folder = trained("clipreid")[1]
    config = toy_config("TEST.WEIGHT", str(folder / "toy-vit_2.pth"))
    with locked(folder / ".test.lock"), pytest.raises(OSError, match=r"OUTPUT_DIR .* in use by process"):
        run_test(config, ARGS)
    assert not (folder / "test_log.txt").exists()
    with locked(folder / ".train.lock"):
        run_test(config, ARGS)
    assert (folder / "metrics.json").exists()


@pytest.mark.slow
def test_a_folder_that_cannot_be_locked_is_one_warning(trained, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    log = (trained("baseline")[1] / "train_log.txt").read_text()
    assert log.count(os.strerror(errno.ENOLCK)) == 1
