"""A finished run that is resumed with more epochs: what it leaves, and what is refused."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from config.arguments import end_in_one_line
from tests.processor.running import (
    EVERY_STEP,
    OFTEN,
    Killed,
    assert_same_run,
    checkpoints,
    equal,
    kill_at_step,
    last,
    records,
)

SHORT, LONG = ("MAIN.MAX_EPOCHS", 2), ("MAIN.MAX_EPOCHS", 4)
FALLING = ("MAIN.STEPS", [2, 4], "MAIN.WARMUP_ITERS", 3)
CLUSTERS = ("CLUSTER.METHOD", "dbscan", "CLUSTER.MIN_SAMPLES", 1, "CLUSTER.K1", 2, "CLUSTER.K2", 1)
CLUSTERS += ("MODEL.ID_LOSS_WEIGHT", 0.0, "MAIN.ITERS", 3)
# Built before the second and the fourth epoch.
GRAPH = ("DATALOADER.SAMPLER", "graph", "DATALOADER.GRAPH_AFTER", 1, "DATALOADER.GRAPH_EVERY", 2)
MULTISTEP_STAGE1 = ("SOLVER.STAGE1.SCHEDULE", "multistep", "SOLVER.STAGE1.WARMUP_ITERS", 1)


@pytest.fixture
def lengthened(trained):
    """lengthened('baseline', …) -> the folder of a run of two epochs that was made four."""

    def run(recipe, *pairs):
        trained(recipe, *pairs, *SHORT)
        return trained(recipe, *pairs, *LONG, resume=True)[1]

    return run


@pytest.fixture
def whole(trained, tmp_path):
    """whole('baseline', …) -> the folder of a run that had four epochs from the start."""
    return lambda recipe, *pairs: trained(recipe, *pairs, *LONG, "OUTPUT_DIR", str(tmp_path / "whole"))[1]


@pytest.mark.parametrize(
    ("recipe", "pairs"),
    [
        ("baseline", FALLING),
        ("baseline", ("MODEL.METRIC_LOSS_TYPE", "triplet_center")),
        ("baseline", ("MAIN.OPTIMIZER_NAME", "SGD", "SOLVER.KEEP_BEST", True)),
        ("clipreid", FALLING),
        ("pcl", FALLING),
        ("pcl", CLUSTERS),
        ("clipreid", (*GRAPH, "MODEL.PCL_LOSS_WEIGHT", 1.0)),
    ],
)
def test_it_ends_as_if_it_had_had_them_from_the_start(lengthened, whole, recipe, pairs):
    folder, at_once = (run(recipe, *OFTEN, *pairs) for run in (lengthened, whole))
    assert_same_run(folder, at_once)
    assert equal(last(folder)["optimizer"], last(at_once)["optimizer"])
    assert equal(last(folder)["beside"], last(at_once)["beside"])
    assert [line["epoch"] for line in records(folder) if line["stage"] != "stage1"] == [1, 2, 3, 4]


def test_an_evaluation_at_its_former_end_changes_no_weights(lengthened, whole):
    folder, at_once = lengthened("baseline"), whole("baseline")
    found = checkpoints(folder)
    assert found.keys() - checkpoints(at_once).keys() == {"toy-vit_2.pth"}
    assert equal(found["toy-vit_4.pth"], checkpoints(at_once)["toy-vit_4.pth"])
    assert equal(last(folder)["optimizer"], last(at_once)["optimizer"])
    assert "mAP" in records(folder)[1] and "mAP" not in records(at_once)[1]


def test_it_may_be_killed_and_made_longer_again(trained, whole, monkeypatch):
    trained("clipreid", *OFTEN, *EVERY_STEP, "MAIN.MAX_EPOCHS", 1)
    trained("clipreid", *OFTEN, *EVERY_STEP, "MAIN.MAX_EPOCHS", 2, resume=True)
    with monkeypatch.context() as context, pytest.raises(Killed):
        kill_at_step(context, 2)
        trained("clipreid", *OFTEN, *EVERY_STEP, *LONG, resume=True)
    _, folder = trained("clipreid", *OFTEN, *EVERY_STEP, *LONG, resume=True)
    assert_same_run(folder, whole("clipreid", *OFTEN))


def test_a_run_that_ended_after_stage_1_goes_on_with_more_of_it(trained, monkeypatch, tmp_path):
    """Nothing has been trained from its end."""
    more = ("SOLVER.STAGE1.MAX_EPOCHS", 3)
    with monkeypatch.context() as context, pytest.raises(Killed):
        kill_at_step(context, 5)
        trained("clipreid", *OFTEN, *MULTISTEP_STAGE1)
    _, folder = trained("clipreid", *OFTEN, *MULTISTEP_STAGE1, *more, resume=True)
    _, at_once = trained("clipreid", *OFTEN, *MULTISTEP_STAGE1, *more, "OUTPUT_DIR", str(tmp_path / "whole"))
    found = checkpoints(folder)
    found.pop("toy-vit_stage1_2.pth")
    assert equal(found, checkpoints(at_once)) and records(folder) == records(at_once)


def test_the_log_says_it(lengthened):
    told = (lengthened("baseline") / "train_log.txt").read_text()
    assert re.search(r"WARNING: resumed with SOLVER\.MAX_EPOCHS 4, was 2\n", told)
    assert re.search(r"resuming .*last\.pt: baseline, epoch 3, iteration 0; finished stages: none\n", told)


# ---- what is refused


@pytest.fixture
def refused(trained, capsys):
    """refused(folder, 'baseline', …) -> the line with which a resumed run ends; `last.pt` stays as it was."""

    def run(folder, recipe, *pairs):
        before = (folder / "last.pt").read_bytes()
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught, end_in_one_line():
            trained(recipe, *pairs, resume=True)
        told = capsys.readouterr().err
        assert caught.value.code == 2 and told.startswith("error: ") and told.count("\n") == 1
        assert str(folder / "last.pt") in told and (folder / "last.pt").read_bytes() == before
        return told

    return run


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (
            ("MAIN.SCHEDULE", "cosine", "MAIN.WARMUP_EPOCHS", 0),
            ("MAIN.SCHEDULE", "cosine", "MAIN.WARMUP_EPOCHS", 0, *LONG),
            "SOLVER.STAGE2.MAX_EPOCHS is 4, but .* has finished stage2 with 2, and SOLVER.STAGE2.SCHEDULE "
            "'cosine' has other rates for another number of epochs; allowed with --resume: 2, or another",
        ),
        (
            ("SOLVER.STAGE2.GAUSS_STD", 1.0),
            ("SOLVER.STAGE2.GAUSS_STD", 1.0, *LONG),
            "MAX_EPOCHS is 4, .* with SOLVER.STAGE2.GAUSS_STD the stage has ended as the mean of its epochs",
        ),
        ((), ("MAIN.MAX_EPOCHS", 1), "MAX_EPOCHS is 1, .* with 2, and these epochs are over; .*: 2, or"),
        (
            (),
            ("SOLVER.STAGE1.MAX_EPOCHS", 3, *LONG),
            "SOLVER.STAGE1.MAX_EPOCHS is 3, .* has finished stage1 with 2, and what comes after that stage",
        ),
    ],
)
def test_what_would_not_be_the_longer_run_is_refused(trained, refused, first, then, told):
    _, folder = trained("clipreid", *first)
    assert re.search(told, refused(folder, "clipreid", *then))


def test_more_epochs_of_stage_1_are_refused_within_stage_2(trained, refused, monkeypatch, toy_config):
    folder = Path(toy_config().OUTPUT_DIR)
    with monkeypatch.context() as context, pytest.raises(Killed):
        kill_at_step(context, 6)
        trained("clipreid", *EVERY_STEP)
    told = refused(folder, "clipreid", *EVERY_STEP, "SOLVER.STAGE1.MAX_EPOCHS", 3)
    assert "has finished stage1 with 2" in told


def test_a_file_that_holds_no_optimizer_is_refused(trained, refused):
    """As earlier versions wrote them at the end of a run."""
    _, folder = trained("baseline")
    former = last(folder)
    for name in ("epoch", "steps", "skipped", "beside", "optimizer"):
        del former[name]
    torch.save(former, folder / "last.pt")
    told = refused(folder, "baseline", *LONG)
    assert "is of an earlier version, which did not keep the optimizer of baseline at its end" in told
    trained("baseline", resume=True)  # with which there is nothing to do
    assert "nothing left to train" in (folder / "train_log.txt").read_text()


def test_other_images_are_refused(trained, refused, market_tree, tmp_path):
    root = shutil.copytree(market_tree, tmp_path / "data")
    _, folder = trained("baseline", "DATASETS.ROOT_DIR", str(root))
    next(root.glob("*/bounding_box_train/*.jpg")).unlink()
    told = refused(folder, "baseline", "DATASETS.ROOT_DIR", str(root), *LONG)
    assert "the training split has 7 images" in told
