"""The programs under torchrun, on the CPU: the same numbers as one process, and what becomes of failures."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from datasets.drawn import FOLDER
from tests.processes import run_program
from tests.several_processes.courses import assert_same_course, records

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("processes", [2, 4])
def test_two_stages_take_the_same_course(trained, processes):
    one, several = trained(1, "train_clipreid.py"), trained(processes, "train_clipreid.py")
    assert_same_course(records(one), records(several))
    assert {path.name for path in several.iterdir()} == {path.name for path in one.iterdir()}
    log = (several / "train_log.txt").read_text()
    assert log.count("Epoch 1 done") == 2  # the first process's lines alone
    assert f"{processes} processes share the work" in log


@pytest.mark.parametrize(
    "options",
    [
        ("SOLVER.MICRO_BATCH", "2", "MODEL.SIE_CAMERA", "True"),
        (
            "DATALOADER.SAMPLER",
            "softmax",
            "MODEL.METRIC_LOSS_TYPE",
            "triplet_center",
            "TEST.NECK_FEAT",
            "after",
        ),
        ("DATASETS.TRAIN_ALSO", "folder", "MODEL.SIE_CAMERA", "True"),
    ],
    ids=["micro-batches", "plain shuffle and centres", "two data sets"],
)
def test_the_baseline_takes_the_same_course(trained, options):
    whole = tuple("0" if word == "2" and options[0] == "SOLVER.MICRO_BATCH" else word for word in options)
    assert_same_course(records(trained(1, "train.py", *whole)), records(trained(2, "train.py", *options)))


def test_batch_norms_of_a_resnet_see_the_whole_batch(trained):
    one, two = (records(trained(n, "train.py", tower="resnet")) for n in (1, 2))
    assert_same_course(one, two, tolerance=1e-4)
    alone = records(trained(2, "train.py", "SOLVER.SYNC_BN", "False", tower="resnet"))
    assert abs(alone[0]["loss"] - one[0]["loss"]) > 1e-4


@pytest.mark.parametrize("augment", ["none", "flip_crop"])
def test_a_test_is_shared(run, trained, place, augment):
    given = "TEST.WEIGHT", str(trained(1, "train_clipreid.py") / "vit_2.pth"), "TEST.AUGMENT", augment
    for processes in (1, 2):
        process = run(processes, "test_clipreid.py", f"test{processes}", *given)
        assert process.returncode == 0, process.stderr
    metrics = [json.loads((place / f"test{n}" / "metrics.json").read_text()) for n in (1, 2)]
    assert metrics[0] == metrics[1]
    one, two = (np.load(place / f"test{n}" / "features.npz") for n in (1, 2))
    for name in one.files:
        if name != "info":
            assert one[name].shape == two[name].shape
    assert list(one["paths"]) == list(two["paths"])
    np.testing.assert_allclose(one["features"], two["features"], rtol=1e-5, atol=1e-6)


def test_an_extraction_is_shared(trained, place):
    bad = place / "bad.jpg"
    bad.write_bytes(b"no image")
    weight = trained(1, "train_clipreid.py") / "vit_2.pth"
    options = f"--weight {weight} --size 64 32 --device cpu --amp off --workers 0"
    options += f" --images {place / FOLDER / 'query'} {bad}"
    for processes in (1, 2):
        out = ["--out", str(place / f"{processes}.npz")]
        done = run_program(["tools/extract.py", *options.split(), *out], processes)
        assert done.returncode == 0, done.stderr
        assert "1 of 7 images could not be read" in done.stdout
    one, two = (np.load(place / f"{n}.npz") for n in (1, 2))
    assert list(one["paths"]) == list(two["paths"])
    np.testing.assert_allclose(one["features"], two["features"], rtol=1e-5, atol=1e-6)


def test_a_wrong_setting_is_one_line_of_each_process(torchrun, program):
    command = torchrun(2, program("train.py", "wrong", "SOLVER.IMS_PER_BATCH", "6"))
    process = subprocess.run(**command, capture_output=True, timeout=180)
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: process")]
    assert process.returncode == 1 and 1 <= len(errors) <= 2  # torchrun may end the second before
    assert "IMS_PER_BATCH is 6; allowed with 2 processes and 2 images of an identity" in errors[0]


LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
LONG = ("SOLVER.STAGE2.MAX_EPOCHS", "30", "SOLVER.STAGE2.EVAL_PERIOD", "30", "SOLVER.KEEP", "1")


@contextmanager
def start(command, place):
    """The process of a command, whose stderr goes to errors.txt; what is left of it is killed at the end."""
    with open(place / "errors.txt", "w") as errors:
        started = subprocess.Popen(**command, stdout=subprocess.DEVNULL, stderr=errors)
    try:
        yield started
    except BaseException:
        print((place / "errors.txt").read_text())
        raise
    finally:
        started.kill()


def wait_for(log, text, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if log.exists() and text in log.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{text!r} does not come in {log}")


def process_of_rank(rank, out):
    for folder in os.listdir("/proc"):
        try:
            with open(f"/proc/{folder}/cmdline") as line, open(f"/proc/{folder}/environ") as names:
                if f"{out}\0" in line.read() and f"\0RANK={rank}\0" in names.read():
                    return int(folder)
        except (OSError, UnicodeDecodeError):
            continue
    raise AssertionError(f"no process of rank {rank}")


@LINUX
def test_a_killed_process_ends_the_others_and_a_restart_goes_on(torchrun, program, trained, place):
    command = torchrun(2, program("train_clipreid.py", "killed", *LONG), "--max_restarts=1")
    with start(command, place) as started:
        wait_for(place / "killed" / "train_log.txt", "(stage2, epoch 3,")
        os.kill(process_of_rank(1, place / "killed"), signal.SIGKILL)
        killed = time.monotonic()
        wait_for(place / "killed" / "train_log.txt", "resuming")
        assert time.monotonic() - killed < 45  # most of it is the start of Python
        started.wait(timeout=180)
    errors = (place / "errors.txt").read_text()
    assert started.returncode == 0, errors
    assert "exitcode: -9" in errors
    whole = trained(2, "train_clipreid.py", *LONG)
    one, other = (
        torch.load(folder / "vit_30.pth", weights_only=True) for folder in (whole, place / "killed")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert_same_course(records(whole), records(place / "killed"), tolerance=0)


@LINUX
def test_a_signal_to_one_process_stops_all_and_one_process_goes_on_alone(
    torchrun, program, run, trained, place
):
    with start(torchrun(2, program("train_clipreid.py", "stopped", *LONG)), place) as started:
        log = place / "stopped" / "train_log.txt"
        wait_for(log, "(stage2, epoch 3,")
        os.kill(process_of_rank(0, place / "stopped"), signal.SIGTERM)
        started.wait(timeout=60)
    errors = (place / "errors.txt").read_text()
    assert started.returncode == 1 and "exitcode: 143" in errors
    assert "stopped by SIGTERM; --resume continues the run" in log.read_text()
    assert torch.load(place / "stopped" / "last.pt", weights_only=True)["stage"] == "stage2"
    alone = run(1, "train_clipreid.py", "stopped", *LONG, options=["--resume"])
    assert alone.returncode == 0, alone.stderr
    assert "last.pt is of 2 processes, now there are 1: " in log.read_text()
    # Later on, differences of the last bits have grown.
    whole, resumed = (
        records(folder)[:12] for folder in (trained(2, "train_clipreid.py", *LONG), place / "stopped")
    )
    assert_same_course(whole, resumed, tolerance=1e-4)


@LINUX
def test_processes_end_with_torchrun_when_that_is_killed(torchrun, program, run, trained, place):
    out = place / "orphans"
    with start(torchrun(2, program("train_clipreid.py", "orphans", *LONG)), place) as started:
        wait_for(out / "train_log.txt", "(stage2, epoch 3,")
        orphans = [process_of_rank(rank, out) for rank in range(2)]
        started.kill()
        started.wait()
        end = time.monotonic() + 15
        while any(os.path.exists(f"/proc/{orphan}") for orphan in orphans):
            assert time.monotonic() < end, "they go on"
            time.sleep(0.05)
    log = (out / "train_log.txt").read_text()
    assert f"torchrun (process {started.pid}) has ended" in log + (place / "errors.txt").read_text()
    assert "stopped by SIGTERM; --resume continues the run" in log
    resumed = run(2, "train_clipreid.py", "orphans", *LONG, options=["--resume"])
    assert resumed.returncode == 0, resumed.stderr
    whole = trained(2, "train_clipreid.py", *LONG)
    one, other = (torch.load(folder / "vit_30.pth", weights_only=True) for folder in (whole, out))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert_same_course(records(whole), records(out), tolerance=0)
