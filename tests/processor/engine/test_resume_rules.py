"""When a run is resumed, what is refused, and what `last.pt` is good for besides."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from config import cfg_base
from config.load import leaves
from processor.engine.resume import read_snapshot
from tests.processor.evaluation.test_test_output import ARGS, messages
from tests.processor.running import (
    EVERY_STEP,
    Killed,
    assert_same_run,
    checkpoints,
    equal,
    kill_at_step,
    killed,
    last,
    place,
    records,
    run_test,
)

DIGEST = "as digest of its names and labels"


@pytest.fixture
def stopped(trained, toy_config, monkeypatch):
    """stopped(6, 'clipreid', …) -> the folder of a run that was killed before its step of this number."""

    def run(number, recipe="clipreid", *pairs):
        with monkeypatch.context() as context, pytest.raises(Killed):
            kill_at_step(context, number)
            trained(recipe, *EVERY_STEP, *pairs)
        return Path(toy_config(*pairs, tree=cfg_base).OUTPUT_DIR)

    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".txt"}


# ---- when


def test_a_finished_run_does_nothing_more(trained, monkeypatch):
    _, folder = trained("clipreid")
    before = contents(folder)
    kill_at_step(monkeypatch, 1)
    trained("clipreid", resume=True)
    assert contents(folder) == before
    told = [line for line in messages(folder / "train_log.txt") if line]
    assert told[-1].startswith("finished: stage1, stage2 (all of it before")
    assert f"resuming {folder / 'last.pt'}: " in "\n".join(told)


def test_without_last_pt_the_run_starts_at_its_beginning(trained, tmp_path):
    _, whole = trained("clipreid", "OUTPUT_DIR", str(tmp_path / "whole"))
    _, folder = trained("clipreid", resume=True)
    assert_same_run(folder, whole)
    told = messages(folder / "train_log.txt")
    assert f"{folder / 'last.pt'} does not exist: the run starts at its beginning" in told


def test_a_new_run_puts_a_former_last_pt_aside(trained, stopped):
    folder = stopped(4)
    former = (folder / "last.pt").read_bytes()
    trained("clipreid")
    assert (folder / "last.former.pt").read_bytes() == former
    assert last(folder)["finished"] == ["stage1", "stage2"]
    log = (folder / "train_log.txt").read_text()
    assert re.search(r"WARNING: .*last\.pt was of a former run, .*; it is .*last\.former\.pt now", log)
    assert [(line["stage"], line["epoch"]) for line in records(folder)] == [
        ("stage1", 1),  # of the former run, whose lines are kept
        *(("stage1", 1), ("stage1", 2), ("stage2", 1), ("stage2", 2)),
    ]


def test_a_restart_by_torchrun_resumes(trained, stopped, monkeypatch, tmp_path):
    _, whole = trained("clipreid", "OUTPUT_DIR", str(tmp_path / "whole"))
    folder = stopped(6)
    assert place(folder) == ("stage2", 1, 1)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    trained("clipreid", *EVERY_STEP)
    assert_same_run(folder, whole)
    assert not (folder / "last.former.pt").exists()


def test_the_log_goes_on(trained, stopped):
    folder = stopped(6)
    before = (folder / "train_log.txt").read_text()
    trained("clipreid", *EVERY_STEP, resume=True)
    text = (folder / "train_log.txt").read_text()
    assert text.startswith(before)
    told = [found[1] for found in re.finditer(r"transreid INFO: (.*)", text[len(before) :])]
    file = folder / "last.pt"
    assert f"resuming {file}: stage2, epoch 1, iteration 1; finished stages: stage1" in told
    assert f"saved {file} (stage2 finished)" in told and told[-1] == "finished: stage1, stage2"


def test_pretrained_weights_are_not_needed_again(trained, stopped, monkeypatch):
    stopped(3)
    monkeypatch.setattr(sys.modules["model.make_model"], "load_starting_clip", killed)
    trained("clipreid", resume=True)


def test_the_configuration_is_that_of_the_newest_start(trained, stopped):
    folder = stopped(3)
    config, _ = trained("clipreid", "MAIN.EVAL_PERIOD", 1, resume=True)
    assert (folder / "config.yml").read_text() == config.dump()
    assert last(folder)["config"] == leaves(config)


def test_a_file_of_format_2_goes_on(trained, stopped, toy_config, tmp_path):
    """It has the configuration as YAML."""
    _, whole = trained("clipreid", "OUTPUT_DIR", str(tmp_path / "whole"))
    folder = stopped(6)
    former = {"format": 2, "config": toy_config(*EVERY_STEP).dump()}
    torch.save(last(folder) | former, folder / "last.pt")
    trained("clipreid", *EVERY_STEP, resume=True)
    assert_same_run(folder, whole)


# ---- what is refused


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("MODEL.NAME", "toy-resnet", "MODEL.NAME is 'toy-resnet', but the run in {} has 'toy-vit'"),
        ("SOLVER.SEED", 7, "SOLVER.SEED is 7, but the run in {} has 1234"),
        ("MAIN.IMS_PER_BATCH", 8, "SOLVER.STAGE2.IMS_PER_BATCH is 8, but the run in {} has 4"),
        ("SOLVER.STAGE1.IMS_PER_BATCH", 6, "SOLVER.STAGE1.IMS_PER_BATCH is 6, but the run in {} has 5"),
        ("DATALOADER.SAMPLER", "softmax", "SAMPLER is 'softmax', but the run in {} has 'softmax_triplet'"),
        ("DATASETS.NAMES", "dukemtmc", "NAMES is 'dukemtmc', but the run in {} has 'market1501'"),
        ("MODEL.SIE_CAMERA", True, r"{} does not fit the model of this configuration: .*cv_embed"),
        ("MAIN.OPTIMIZER_NAME", "SGD", "STAGE2.OPTIMIZER_NAME is 'SGD', but the run in {} has 'Adam'"),
        (
            "MODEL.METRIC_LOSS_TYPE",
            "triplet_center",
            r"{} does not fit stage2 .*: it holds texts besides",
        ),
    ],
)
def test_another_run_is_refused(trained, stopped, key, value, told):
    folder = stopped(6)
    before = (folder / "last.pt").read_bytes()
    with pytest.raises(ValueError, match=told.format(re.escape(str(folder / "last.pt")))) as caught:
        trained("clipreid", *EVERY_STEP, key, value, resume=True)
    assert "\n" not in str(caught.value)
    assert (folder / "last.pt").read_bytes() == before


@pytest.mark.parametrize(("first", "then"), [("clipreid", "baseline"), ("baseline", "clipreid")])
@pytest.mark.parametrize("finished", [True, False])
def test_the_other_programs_run_is_refused(trained, stopped, first, then, finished):
    if finished:
        trained(first)
    else:
        stopped(2, first)
    with pytest.raises(ValueError, match=r"MODEL\.TEXT is .*, but the run in .*last\.pt has") as caught:
        trained(then, resume=True)
    assert "\n" not in str(caught.value)


def test_as_many_other_images_are_refused(trained, stopped, market_tree, tmp_path):
    root = shutil.copytree(market_tree, tmp_path / "data")
    folder = stopped(6, "clipreid", "DATASETS.ROOT_DIR", str(root))
    image = next(root.glob("*/bounding_box_train/0001_c1*.jpg"))
    moved = image.rename(image.with_name(image.name.replace("s1_", "s2_")))
    told = (
        f"the training split has [0-9a-f]{{16}} {DIGEST}, but the run in .* has [0-9a-f]{{16}}; allowed with"
    )
    with pytest.raises(ValueError, match=told):
        trained("clipreid", "DATASETS.ROOT_DIR", str(root), resume=True)
    # A file of an earlier version does not know the names.
    former = last(folder)
    del former[DIGEST]
    torch.save(former, folder / "last.pt")
    trained("clipreid", "DATASETS.ROOT_DIR", str(root), resume=True)
    assert moved.exists() and last(folder)["finished"] == ["stage1", "stage2"]


def test_the_same_images_may_lie_elsewhere(trained, stopped, market_tree, tmp_path):
    folder = stopped(6)
    root = shutil.copytree(market_tree, tmp_path / "moved")
    trained("clipreid", "DATASETS.ROOT_DIR", str(root), resume=True)
    assert last(folder)["finished"] == ["stage1", "stage2"]


@pytest.mark.parametrize(("left", "told"), [(7, "7 images, but .* has 8"), (6, "6 images")])
def test_other_images_are_refused(trained, stopped, market_tree, tmp_path, left, told):
    root = shutil.copytree(market_tree, tmp_path / "data")
    folder = stopped(6, "clipreid", "DATASETS.ROOT_DIR", str(root))
    for path in sorted(root.glob("*/bounding_box_train/*.jpg"))[left:]:
        path.unlink()
    with pytest.raises(ValueError, match=f"the training split has {told}") as caught:
        trained("clipreid", "DATASETS.ROOT_DIR", str(root), resume=True)
    assert str(folder / "last.pt") in str(caught.value) and "\n" not in str(caught.value)


def test_other_keys_may_change_and_are_told(trained, stopped):
    folder = stopped(6)
    trained("clipreid", "MAIN.LOG_PERIOD", 7, "DATALOADER.NUM_WORKERS", 1, resume=True)
    log = (folder / "train_log.txt").read_text()
    told = re.findall(r"WARNING: (resumed with .*)", log)
    assert told == [
        "resumed with DATALOADER.NUM_WORKERS 1, was 0",
        "resumed with SOLVER.SAVE_EVERY_MIN 10.0, was 1e-09",
        "resumed with SOLVER.STAGE2.LOG_PERIOD 7, was 100",
    ]


def test_changed_settings_of_the_optimizer_are_in_force(trained, stopped, monkeypatch):
    stopped(6, "clipreid", "MAIN.WEIGHT_DECAY", 0.125)
    seen = []
    kill_at_step(monkeypatch, 1, lambda stage, *rest: seen.extend(stage.optimizer.param_groups))
    trained("clipreid", "MAIN.WEIGHT_DECAY", 0.25, "MAIN.BASE_LR", 2e-3, resume=True)
    assert {group["weight_decay"] for group in seen} == {0.25, 0.0005}  # of biases as before
    assert {group["lr"] for group in seen} == {2e-3}


def test_a_truncated_file_is_refused(trained, stopped):
    file = stopped(3) / "last.pt"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"last\.pt is no checkpoint: ") as caught:
        trained("clipreid", resume=True)
    assert "\n" not in str(caught.value)


def test_files_of_another_kind_are_refused(trained, stopped):
    folder = stopped(7)
    file = folder / "last.pt"
    shutil.copy(folder / "toy-vit_stage1_2.pth", file)
    with pytest.raises(ValueError, match=r"last\.pt is not the state of a run; allowed"):
        trained("clipreid", resume=True)
    file.write_text("no archive")
    with pytest.raises(ValueError, match=r"last\.pt is no checkpoint"):
        trained("clipreid", resume=True)


def test_a_file_without_one_of_its_entries_is_refused(trained, stopped):
    folder = stopped(7)
    whole = last(folder)
    # Read by torchrun, by the log only, and not in all files of this format.
    for name in whole.keys() - {"versions", "launch", "processes", "steps", "card", DIGEST}:
        torch.save({key: value for key, value in whole.items() if key != name}, folder / "last.pt")
        with pytest.raises(ValueError, match=r"last\.pt") as caught:
            trained("clipreid", resume=True)
        assert "\n" not in str(caught.value), name


def test_a_file_that_does_not_count_steps_goes_on(trained, stopped):
    folder = stopped(7)
    torch.save({key: value for key, value in last(folder).items() if key != "steps"}, folder / "last.pt")
    assert read_snapshot(folder / "last.pt").progress.steps == 0
    trained("clipreid", resume=True)
    assert last(folder)["finished"] == ["stage1", "stage2"]


def test_a_missing_file_has_no_snapshot(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"last\.pt"):
        read_snapshot(tmp_path / "last.pt")


# ---- what else the file is good for


@pytest.mark.parametrize("number", [7, None])
def test_last_pt_can_be_tested(trained, stopped, toy_config, tmp_path, number):
    folder = stopped(number) if number else trained("clipreid")[1]
    content = last(folder)
    torch.save(content["model"], tmp_path / "plain.pth")
    told = []
    for name, weight in (("a", folder / "last.pt"), ("b", tmp_path / "plain.pth")):
        run_test(toy_config("TEST.WEIGHT", str(weight), "OUTPUT_DIR", str(tmp_path / name)), ARGS)
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        assert metrics.pop("weight") == str(weight)
        told.append(metrics)
    assert told[0] == told[1]
    if number is None:
        assert equal(content["model"], checkpoints(folder)["toy-vit_2.pth"])


def test_last_pt_says_what_it_is(stopped):
    content = last(stopped(7))
    assert {"config", "versions", "images", "identities"} < content.keys()
    assert (content["images"], content["identities"], content["finished"]) == (8, 4, ["stage1"])
    assert "python" in content["versions"] and content["config"]["MODEL.NAME"] == "toy-vit"
    assert list(content["beside"]) == ["texts"]
