"""Corners of resuming: numbers of epochs, the scaler, memory layouts, signals at odd moments."""

import os
import re
import signal

import pytest
import torch

from processor.engine import loop as engine
from processor.engine import resume
from processor.engine.resume import _load_optimizer
from tests.processor.recorder import recorded_stage
from tests.processor.running import EVERY_STEP, OFTEN, Killed, checkpoints, kill_at_step, last, place, records
from utils.precision import Precision


@pytest.fixture
def whole(trained, tmp_path):
    """The folder of a run of both stages."""
    return trained("clipreid", *OFTEN, "OUTPUT_DIR", str(tmp_path / "whole"))[1]


def test_fewer_epochs_than_were_trained_are_refused(trained, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at_step(patch, 4)
        with pytest.raises(Killed):
            trained("clipreid", *EVERY_STEP)
    told = r"^stage1 has 1 epochs, .* in .*last\.pt is at stage1, epoch 2, iteration 1; allowed: .* 2 or"
    with pytest.raises(ValueError, match=told):
        trained("clipreid", *EVERY_STEP, "SOLVER.STAGE1.MAX_EPOCHS", 1, resume=True)
    trained("clipreid", *EVERY_STEP, resume=True)


def test_the_scaler_of_a_finished_stage_goes_on_in_the_next(trained, monkeypatch, tmp_path):
    precisions = []

    def precision(choice, device):
        precisions.append(Precision("cpu"))
        scaler = torch.amp.GradScaler("cpu", enabled=True, growth_interval=1)
        object.__setattr__(precisions[-1], "scaler", scaler)
        return precisions[-1]

    monkeypatch.setattr("processor.make_processor.training_precision", precision)
    _, one = trained("clipreid", "OUTPUT_DIR", str(tmp_path / "one"))
    with monkeypatch.context() as patch:
        kill_at_step(patch, 5)
        with pytest.raises(Killed):
            trained("clipreid")
    _, other = trained("clipreid", resume=True)
    assert last(other)["scaler"]["scale"] == last(one)["scaler"]["scale"] > 65536
    assert records(other) == records(one)


def test_steps_that_are_skipped_count_over_epochs(trained, monkeypatch):
    """An epoch may be shorter than the row of skips that is borne."""
    precision = Precision("cpu")
    object.__setattr__(precision, "scaler", torch.amp.GradScaler("cpu", enabled=True))
    monkeypatch.setattr("processor.make_processor.training_precision", lambda *_: precision)
    monkeypatch.setattr(engine, "is_finite", lambda loss, optimizer: torch.tensor(False))
    with pytest.raises(FloatingPointError, match=r"baseline, epoch 11, iteration 1: .* after 20 steps"):
        trained("baseline", "MAIN.MAX_EPOCHS", 15)


def test_the_first_file_of_stage_2_alone_is_there_before_its_first_step(trained, whole, monkeypatch):
    kill_at_step(monkeypatch, 1)
    with pytest.raises(Killed):
        trained("clipreid", "MODEL.STAGE1_WEIGHT", str(whole / "toy-vit_stage1_2.pth"))
    assert place(whole.parent / "run") == ("stage2", 1, 0)


def test_a_file_of_stage_2_is_no_file_of_stage_1(trained, whole):
    told = re.escape("toy-vit_2.pth has been through stage 2")
    with pytest.raises(ValueError, match=told):
        trained("clipreid", "MODEL.STAGE1_WEIGHT", str(whole / "toy-vit_2.pth"))


def test_moments_are_laid_out_like_their_weights():
    weight = torch.nn.Parameter(torch.randn(2, 3, 4, 4))
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    saved = optimizer.state_dict()
    wanted = saved["state"][0]["exp_avg"].clone()
    saved["state"][0]["exp_avg"] = wanted.to(memory_format=torch.channels_last)
    _load_optimizer(optimizer, saved)
    moment = optimizer.state[weight]["exp_avg"]
    assert moment.stride() == weight.stride() and torch.equal(moment, wanted)


def test_counts_of_steps_are_where_the_kernels_of_the_optimizer_want_them():
    """`last.pt` holds no settings, so that it does not say what kernels there were."""
    here, there = (torch.nn.Parameter(torch.ones(3, device=device)) for device in ("cpu", "meta"))
    optimizer = torch.optim.Adam([here], fused=True)
    here.grad = torch.ones(3)
    optimizer.step()
    saved = {"state": optimizer.state_dict()["state"], "param_groups": [{"params": [0]}]}
    # As with `fused` on a GPU.
    other = torch.optim.Adam([{"params": [there], "lr": 0.5, "lr_scale": 2.0}], capturable=True)
    _load_optimizer(other, saved)
    assert {value.device.type for value in other.state[there].values()} == {"meta"}
    assert (other.param_groups[0]["lr"], other.param_groups[0]["lr_scale"]) == (0.5, 2.0)
    with pytest.raises(ValueError, match="number of parameter groups"):
        _load_optimizer(other, saved | {"param_groups": [{"params": [0]}, {"params": []}]})


def test_another_process_gives_its_state_but_writes_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(resume, "is_first", lambda: False)
    stage, run, _ = recorded_stage(tmp_path)
    asked = []
    monkeypatch.setattr(stage.optimizer, "state_dict", lambda: asked.append("state"))
    run.saver.save(stage, resume.Progress("toy"))
    assert asked == ["state"] and run.saver.has_saved and not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", ["baseline", "clipreid"])
def test_a_signal_while_a_checkpoint_is_written_loses_nothing(trained, monkeypatch, tmp_path, recipe):
    save = engine.save_model

    def interrupted(*args, **options):
        monkeypatch.setattr(engine, "save_model", save)
        os.kill(os.getpid(), signal.SIGTERM)
        save(*args, **options)

    monkeypatch.setattr(engine, "save_model", interrupted)
    pairs = ("SOLVER.STAGE1.CHECKPOINT_PERIOD", 1) if recipe == "clipreid" else ()
    with pytest.raises(SystemExit) as ended:
        trained(recipe, "MAIN.CHECKPOINT_PERIOD", 1, "SOLVER.SAVE_EVERY_MIN", 0, *pairs)
    wanted = ("baseline", 2, 0) if recipe == "baseline" else ("stage1", 2, 0)
    assert ended.value.code == 143 and place(tmp_path / "run") == wanted


def test_a_signal_before_an_evaluation_is_not_kept_waiting(trained, monkeypatch, tmp_path):
    save = engine.Saver.save

    def interrupted(self, stage, progress):
        save(self, stage, progress)
        if progress.iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(engine.Saver, "save", interrupted)
    monkeypatch.setattr(engine, "log_lines", lambda *_: pytest.fail("evaluated"))
    with pytest.raises(SystemExit) as ended:
        trained("baseline", *OFTEN, "SOLVER.SAVE_EVERY_MIN", 0)
    assert ended.value.code == 143 and place(tmp_path / "run") == ("baseline", 1, 2)


def test_former_files_are_kept_one_by_one(trained, tmp_path):
    for _ in range(3):
        trained("baseline")
    names = {path.name for path in (tmp_path / "run").glob("last*.pt")}
    assert names == {"last.pt", "last.former.pt", "last.former1.pt"}
    assert checkpoints(tmp_path / "run")


def test_a_restart_goes_on_with_its_own_run_alone(trained, monkeypatch, tmp_path):
    trained("baseline")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    trained("baseline")
    assert (tmp_path / "run" / "last.former.pt").exists()
    trained("baseline")
    assert not (tmp_path / "run" / "last.former1.pt").exists()
