"""Runs with trackers of experiments: the same numbers, each step once, and no run ends because of one."""

import argparse
import json
import logging

import pytest

from config import cfg_tbps
from config.load import load_config
from processor import METHODS, train
from processor.make_trackers import make_trackers
from tests.processor.running import EVERY_STEP, OFTEN, Killed, assert_same_run, kill_at_step, last
from tests.processor.trackers.events import read_events, scalars, steps, texts
from tests.toys import TEXT_SETTINGS, draw_captions, words

BOARD = ("LOG.TRACKER", "tensorboard", "LOG.PICTURES_EVERY", 1)
STEPS = ("SOLVER.STAGE1.LOG_PERIOD", 1, "SOLVER.STAGE2.LOG_PERIOD", 1)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_is_the_same_with_trackers(trained, tmp_path):
    whole = trained("clipreid", *OFTEN, "OUTPUT_DIR", str(tmp_path / "whole"))[1]
    folder = trained("clipreid", *OFTEN, *BOARD, *STEPS)[1]
    assert_same_run(folder, whole)
    assert {each.name for each in folder.iterdir()} - {each.name for each in whole.iterdir()} == {
        *("clipreid", "pictures"),  # the default names: the method, and the folder
    }
    assert {each.name for each in (folder / "clipreid").iterdir()} == {"run_stage1", "run_stage2"}
    assert "WARNING" not in (folder / "train_log.txt").read_text()


def test_it_shows_the_numbers_of_metrics_jsonl(trained):
    pairs = ("LOG.EXPERIMENT", "market", "LOG.RUN", "vit", "SOLVER.SEED", 3)
    folder = trained("clipreid", *OFTEN, *BOARD, *STEPS, *pairs)[1]
    stage1, stage2 = (folder / "market" / f"vit_{stage}" for stage in ("stage1", "stage2"))
    found, first = scalars(stage2), lines(folder)[2]
    assert found["val_rank1"][0] == (1, pytest.approx(first["rank1"]))
    assert found["train_loss_stage2_epoch"][0] == (1, pytest.approx(first["loss"]))
    assert found["base_lr_stage2"][0] == (1, pytest.approx(first["lr"]))
    assert read_events(stage2).Scalars("val_mAP")[0].wall_time == first["time"]
    assert steps(stage1 / "steps")["train_loss_stage1_step"] == [1, 2, 3, 4]
    assert steps(stage2 / "steps")["train_loss_stage2_step"] == [1, 2, 3, 4]
    assert "\n    SOLVER.SEED: 3\n" in texts(stage1)["config"][0][1]
    shown = read_events(stage2).Images("rankings")
    assert [event.step for event in shown] == [1, 2] and shown[0].width > 500
    assert {each.name for each in (folder / "pictures").iterdir()} == {
        *("rankings_stage2_1.png", "rankings_stage2_2.png"),
    }


@pytest.mark.parametrize("moment", [2, 5, 8])
def test_a_run_that_was_killed_shows_each_step_once(trained, tmp_path, monkeypatch, moment):
    """Saved before each step, at most; `last.pt` also lags behind where saves are rare."""
    for name, often in (("often", EVERY_STEP), ("rarely", ())):
        pairs = (*OFTEN, *BOARD, *STEPS, *often, "OUTPUT_DIR", str(tmp_path / name), "LOG.RUN", "a")
        with monkeypatch.context() as context, pytest.raises(Killed):
            kill_at_step(context, moment)
            trained("clipreid", *pairs)
        folder = trained("clipreid", *pairs, resume=True)[1] / "clipreid"
        for stage in ("stage1", "stage2"):
            found = steps(folder / f"a_{stage}" / "steps")
            assert found and all(each == [1, 2, 3, 4] for each in found.values())
            epochs = steps(folder / f"a_{stage}")
            assert epochs[f"train_loss_{stage}_epoch"] == [1, 2]
        assert epochs["val_mAP"] == [1, 2]
        assert [each.step for each in read_events(folder / "a_stage2").Images("rankings")] == [1, 2]


def test_trackers_may_change_on_resume(trained, monkeypatch, caplog):
    with monkeypatch.context() as context, pytest.raises(Killed):
        kill_at_step(context, 7)
        trained("clipreid", *OFTEN)
    folder = trained("clipreid", *OFTEN, *BOARD, resume=True)[1]
    assert list(last(folder)["trackers"]) == [
        "metrics.jsonl",
        "receipt.json",
        "tensorboard",
        "pictures",
    ]
    assert scalars(folder / "clipreid/run_stage2")["val_mAP"][-1][0] == 2
    log = (folder / "train_log.txt").read_text()
    assert "resumed with LOG.TRACKER 'tensorboard', was 'none'" in log


def test_a_failing_tracker_is_one_warning(trained, tmp_path):
    whole = trained("baseline", *OFTEN, "OUTPUT_DIR", str(tmp_path / "whole"))[1]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine").write_text("in the way of a folder")
    folder = trained("baseline", *OFTEN, *BOARD, "LOG.EXPERIMENT", "mine")[1]
    assert_same_run(folder, whole)
    warnings = [line for line in (folder / "train_log.txt").read_text().splitlines() if "tracker" in line]
    (warning,) = [line for line in warnings if "WARNING" in line]
    assert "tensorboard" in warning and str(folder / "mine") in warning


def test_pictures_of_a_search_by_text(toy_towers, tmp_path):
    place = draw_captions(tmp_path / "data")
    settings = TEXT_SETTINGS | {"DATASETS.ROOT_DIR": str(place), "OUTPUT_DIR": str(tmp_path / "run")}
    settings |= dict(zip(BOARD[::2], BOARD[1::2], strict=True))
    args = {"config_file": "", "local_rank": 0, "traceback": False, "opts": [], "resume": False}
    train(load_config(cfg_tbps, "", words(settings)), argparse.Namespace(**args), method=METHODS["tbps"])
    events = read_events(tmp_path / "run/tbps/run_tbps")
    assert [each.step for each in events.Images("rankings")] == [1, 2]


@pytest.mark.parametrize(("every", "names"), [(0, ["tensorboard"]), (5, ["tensorboard", "pictures"])])
def test_evaluations_are_only_seen_for_pictures(toy_config, tmp_path, every, names):
    config = toy_config("LOG.TRACKER", "tensorboard", "LOG.PICTURES_EVERY", every)
    outside = make_trackers(config, "clipreid", tmp_path)
    assert [tracker.name for tracker in outside.trackers] == names and (outside.see is None) == (every == 0)


def test_nothing_is_made_without_a_tracker(toy_config, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        outside = make_trackers(toy_config("LOG.PICTURES_EVERY", 1), "clipreid", tmp_path)
    assert outside == ([], None)
