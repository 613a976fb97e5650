"""A method of another modality trains, evaluates and resumes with new files only."""

import argparse
import json

import pytest

import processor
from config.load import load_config
from datasets.drawn import draw_market1501
from processor import train
from retrieval import RetrievalTask, evaluate_task
from tests.processor.running import Killed, assert_same_run, kill_at_step, records
from tests.second_modality.words import WORDS
from tools import evaluate

SETTINGS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.NAME": "words",
    "INPUT.SIZE_TRAIN": "[32, 16]",
    "INPUT.SIZE_TEST": "[32, 16]",
    "SOLVER.IMS_PER_BATCH": 24,
    "SOLVER.MAX_EPOCHS": 12,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.STEPS": "[8]",
    "SOLVER.EVAL_PERIOD": 12,
    "SOLVER.SAVE_EVERY_MIN": 1e-9,
    "TEST.EVAL_BEFORE_TRAINING": True,
    "TEST.AMP": "off",
}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    root = tmp_path_factory.mktemp("people")
    draw_market1501(
        root, train_ids=40, test_ids=12, images_per_camera=2, cameras=2, distractors=0, size=(32, 16)
    )
    return root


@pytest.fixture
def run(people, tmp_path):
    """run('a', resume=False) -> its output folder."""

    def run(name, resume=False, program=train, **more):
        settings = SETTINGS | {"DATASETS.ROOT_DIR": str(people), "OUTPUT_DIR": str(tmp_path / name)}
        words = [word for pair in (settings | more).items() for word in pair]
        args = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=resume)
        program(load_config(WORDS.tree, "", words), args, method=WORDS)
        return tmp_path / name

    return run


def test_sentences_find_people_who_were_never_seen(run):
    first, second, *_, last = records(run("whole"))
    assert first["stage"] == "untrained" and last["stage"] == "words"
    assert last["num_valid"] == 48  # two sentences for each query image
    assert last["mAP"] > 0.33 and last["mAP"] > 1.4 * first["mAP"]
    assert last["loss"] < 0.7 * second["loss"]


def test_a_checkpoint_is_tested_and_its_features_evaluated_again(run, tmp_path, capsys):
    last = records(run("whole"))[-1]
    weight = {"TEST.WEIGHT": str(tmp_path / "whole" / "words_12.pth")}
    folder = run("tested", program=processor.test, **weight)
    task = RetrievalTask.load(folder / "features.npz")
    assert [trial.rule for trial in task] == ["all"] and len(task.images) == 48 + len(
        next(iter(task)).gallery
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["mAP"] == last["mAP"] == evaluate_task(task.normalized()).mAP
    evaluate.main(["--features", str(folder / "features.npz")])
    assert f"mAP: {last['mAP']:.1%}" in capsys.readouterr().out


def test_it_resumes_bit_for_bit(run, monkeypatch, tmp_path):
    whole = run("whole")
    with monkeypatch.context() as context:
        kill_at_step(context, 60)
        with pytest.raises(Killed):
            run("killed")
    assert_same_run(run("killed", resume=True), whole)
