"""Runs that end for a reason from outside: an image, a loading process, a full disk, a signal."""

import errno
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from config.arguments import end_in_one_line
from datasets import ImageDataset
from processor import make_evaluation
from processor.engine import journal as records
from processor.engine import loop as engine
from processor.engine import resume, trackers
from tests.processor.running import EVERY_STEP, OFTEN, assert_same_run, at_call, kill_at_step, last, place

pytestmark = pytest.mark.slow

NEVER = ("SOLVER.SAVE_EVERY_MIN", 0)


@pytest.fixture
def whole(trained, tmp_path):
    """The folder of a run without interruption."""
    return trained("clipreid", *OFTEN, "OUTPUT_DIR", str(tmp_path / "whole"))[1]


@pytest.fixture
def folder(toy_config):
    return Path(toy_config().OUTPUT_DIR)


def resumed(trained, monkeypatch, *pairs):
    monkeypatch.undo()
    return trained("clipreid", *OFTEN, *pairs, resume=True)[1]


# ---- images and the processes that load them


@pytest.mark.parametrize(("damage", "error"), [("gone", FileNotFoundError), ("cut", ValueError)])
def test_an_image_that_is_lost_in_the_middle(trained, monkeypatch, whole, folder, damage, error):
    lost = {}

    def lose(stage, batch, *rest):
        """One of the images of the next batch."""
        images = stage.loader.dataset.records
        path = next(Path(record.path) for record in images if record.path not in batch.paths)
        lost[path] = path.read_bytes()
        path.unlink() if damage == "gone" else path.write_bytes(lost[path][:100])

    kill_at_step(monkeypatch, 5, lose)
    try:
        with pytest.raises(error) as caught:
            trained("clipreid", *OFTEN, *NEVER)
        (path,) = lost
        assert str(path) in str(caught.value) and place(folder) == ("stage2", 1, 1)
        with monkeypatch.context() as context:
            kill_at_step(
                context, 1, lambda *args: pytest.fail("nothing is trained before images are checked")
            )
            found = "the training split has 7 images" if damage == "gone" else re.escape(str(path))
            with pytest.raises(ValueError, match=found):
                trained("clipreid", *OFTEN, *NEVER, resume=True)
    finally:
        for path, content in lost.items():
            path.write_bytes(content)
    assert_same_run(resumed(trained, monkeypatch), whole)


def one_line(capsys, trained, *pairs):
    """How a program ends: its status, and what it says on stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught, end_in_one_line():
        trained("clipreid", *OFTEN, *pairs)
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize("signaled", [False, True], ids=["alone", "as the program is asked to stop"])
def test_a_loading_process_that_is_killed_while_a_batch_is_awaited(
    trained, monkeypatch, whole, folder, tmp_path, capsys, signaled
):
    program, flag = os.getpid(), tmp_path / "one step is done"
    get = ImageDataset.__getitems__

    def die_at_second_batch(self, keys):
        if os.getpid() != program and self.padding:  # an image for training
            self.batches = getattr(self, "batches", 0) + 1
            if self.batches == 2:
                while not flag.exists():
                    time.sleep(0.01)
                time.sleep(0.2)
                if signaled:
                    os.kill(program, signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGKILL)
        return get(self, keys)

    monkeypatch.setattr(ImageDataset, "__getitems__", die_at_second_batch)
    step = engine.train_step

    def flagged(stage, *args):
        result = step(stage, *args)
        if stage.name == "stage2":
            flag.touch()
        return result

    monkeypatch.setattr(engine, "train_step", flagged)
    # With a cache, loading processes are forked everywhere: they have the patch.
    pairs = (*NEVER, "DATALOADER.NUM_WORKERS", 1, "DATALOADER.CACHE", True)
    status, told = one_line(capsys, trained, *pairs)
    line = "" if signaled else r"error: DataLoader worker \(pid.*\) .*\n"
    assert status == (143 if signaled else 2) and re.fullmatch(line, told)
    assert place(folder) == ("stage2", 1, 1)
    assert_same_run(resumed(trained, monkeypatch, *pairs), whole)


def test_a_loading_process_that_is_killed_during_a_step(trained, monkeypatch, whole, folder, capsys):
    def kill(stage, *rest):
        (worker,) = stage.loader._iterator._workers
        os.kill(worker.pid, signal.SIGKILL)
        time.sleep(1)  # torch's handler of SIGCHLD would end the step

    kill_at_step(monkeypatch, 6, kill)
    pairs = (*EVERY_STEP, "DATALOADER.NUM_WORKERS", 1)
    status, told = one_line(capsys, trained, *pairs)
    assert status == 2 and re.fullmatch(r"error: DataLoader worker \(pid.*\) .*\n", told)
    assert place(folder) == ("stage2", 2, 0)  # the other batch of the epoch had been loaded
    assert_same_run(resumed(trained, monkeypatch, *pairs), whole)


# ---- a full disk


def full_disk(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        (2, "stage1, epoch 1, iteration 0"),
        (3, "stage1, epoch 1, iteration 1"),
        (7, "stage1, epoch 2, iteration 2"),
        (10, "stage2, epoch 1, iteration 2"),
    ],
)
def test_a_full_disk_when_last_pt_is_saved(trained, monkeypatch, whole, folder, number, kept):
    """The former file is as good as new."""
    before = []

    def fill_up(*args):
        before.append((folder / "last.pt").read_bytes())
        full_disk()

    def fill(*args):
        monkeypatch.setattr(torch, "save", fill_up)

    monkeypatch.setattr(resume, "save_torch", at_call(number, fill, resume.save_torch))
    with pytest.raises(
        OSError, match=rf"last\.pt cannot be written: No space .*, which --resume .*\({kept}\)"
    ):
        trained("clipreid", *OFTEN, *EVERY_STEP)
    assert [(folder / "last.pt").read_bytes()] == before
    assert not list(folder.glob(".*"))
    assert_same_run(resumed(trained, monkeypatch, *EVERY_STEP), whole)


def test_a_folder_that_is_gone(trained, monkeypatch, folder):
    """Nothing is said to be kept there."""
    kill_at_step(monkeypatch, 6, lambda *_: shutil.rmtree(folder))
    with pytest.raises(OSError, match=rf"last\.pt cannot be written: .*{folder} does not exist.* is gone$"):
        trained("clipreid", *OFTEN, *EVERY_STEP)


def test_a_full_disk_at_the_first_save(trained, monkeypatch, whole, folder):
    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match=r"last\.pt cannot be written: No space left .*; no file was written$"):
        trained("clipreid", *OFTEN, *EVERY_STEP)
    assert_same_run(resumed(trained, monkeypatch), whole)


@pytest.mark.parametrize(
    ("module", "name", "number", "told"),
    [
        (
            records,
            "save_torch",
            1,
            r"toy-vit_stage1_2\.pth cannot be written: No space left on device; no file",
        ),
        (records, "save_torch", 2, r"toy-vit_1\.pth cannot be written: No space left on device; no file"),
        (trackers, "append_line", 3, r"metrics\.jsonl: no line can be appended: No space left on device"),
    ],
)
def test_a_full_disk_elsewhere(trained, monkeypatch, whole, folder, module, name, number, told):
    def fill(*args):
        write = full_disk
        monkeypatch.setattr(*((torch, "save") if name == "save_torch" else (os, "write")), write)

    monkeypatch.setattr(module, name, at_call(number, fill, getattr(module, name)))
    with pytest.raises(OSError, match=told):
        trained("clipreid", *OFTEN, *EVERY_STEP)
    assert_same_run(resumed(trained, monkeypatch), whole)


# ---- a request to stop


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    ("step", "reached"),
    [
        (1, ("stage1", 1, 1)),
        (4, ("stage1", 2, 2)),
        (5, ("stage2", 1, 1)),
        (8, ("stage2", 2, 2)),
    ],
)
def test_a_request_to_stop(trained, monkeypatch, whole, folder, number, status, step, reached):
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    kill_at_step(monkeypatch, step, lambda *args: signal.raise_signal(number))
    with pytest.raises(SystemExit) as caught:
        trained("clipreid", *OFTEN, *NEVER)
    assert caught.value.code == status and place(folder) == reached
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    log = (folder / "train_log.txt").read_text()
    name = signal.Signals(number).name
    assert f"WARNING: {name}: stopping after this iteration; a second signal stops at once" in log
    assert log.rstrip().endswith(f"stopped by {name}; --resume continues the run")
    assert_same_run(resumed(trained, monkeypatch), whole)


@pytest.mark.parametrize(
    ("number", "error", "status"),
    [(signal.SIGTERM, SystemExit, 143), (signal.SIGINT, KeyboardInterrupt, None)],
)
def test_a_request_to_stop_during_an_evaluation(trained, monkeypatch, whole, folder, number, error, status):
    """Which is left at once: what comes before is saved."""
    extract = make_evaluation.extract_streams
    monkeypatch.setattr(
        make_evaluation, "extract_streams", at_call(2, lambda *args: signal.raise_signal(number), extract)
    )
    with pytest.raises(error) as caught:
        trained("clipreid", *OFTEN, *NEVER)
    assert getattr(caught.value, "code", None) == status
    assert place(folder) == ("stage2", 2, 2)
    assert_same_run(resumed(trained, monkeypatch), whole)


def test_a_request_to_stop_while_files_are_written(trained, monkeypatch, whole, folder):
    """After the epoch's line and last.pt, the run ends between two epochs."""
    append = trackers.append_line
    monkeypatch.setattr(
        trackers, "append_line", at_call(3, lambda *args: signal.raise_signal(signal.SIGTERM), append)
    )
    with pytest.raises(SystemExit) as caught:
        trained("clipreid", *OFTEN, *NEVER)
    assert caught.value.code == 143 and place(folder) == ("stage2", 2, 0)
    assert last(folder)["finished"] == ["stage1"]
    assert_same_run(resumed(trained, monkeypatch), whole)
