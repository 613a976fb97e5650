"""Whole runs of text search on toy towers: what they write, how they are resumed, and their tests."""

import argparse
import json

import pytest

from config import cfg_tbps
from config.load import load_config
from processor import METHODS, train
from processor import test as run_test
from retrieval import RetrievalTask, evaluate_task, evaluate_text_search
from tests.processor.running import Killed, assert_same_run, kill_at_step, records
from tests.toys import TEXT_SETTINGS, draw_captions, words, write_tower

ARGS = {"config_file": "", "local_rank": 0, "traceback": False, "opts": []}
SETTINGS = TEXT_SETTINGS | {"SOLVER.SAVE_EVERY_MIN": 1e-9, "SOLVER.BASE_LR": 1e-3}
SIMPLE = {"MODEL.SS_LOSS_WEIGHT": 0.0, "MODEL.CITC_LOSS_WEIGHT": 0.0, "MODEL.MULTI_VIEW": False}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    write_tower(folder / "toy.json")
    return draw_captions(folder)


@pytest.fixture
def run(place, tmp_path):
    """run('a', resume=False, KEY=…) -> its output folder."""

    def run(name, settings=(), resume=False, program=train):
        given = SETTINGS | {"MODEL.NAME": str(place / "toy.json"), "DATASETS.ROOT_DIR": str(place)}
        given |= {"OUTPUT_DIR": str(tmp_path / name)} | dict(settings)
        args = argparse.Namespace(**ARGS, resume=resume)
        program(load_config(cfg_tbps, "", words(given)), args, method=METHODS["tbps"])
        return tmp_path / name

    return run


def test_files_and_numbers(run):
    folder = run("whole")
    written = {"train_log.txt", "config.yml", "metrics.jsonl", "last.pt"}
    checkpoints = {f"toy_{epoch}.{kind}" for epoch in (1, 2) for kind in ("pth", "json")}
    assert {path.name for path in folder.iterdir()} - {".train.lock"} == written | checkpoints
    first, last = records(folder)
    assert {"loss_nitc", "loss_ritc", "loss_citc", "loss_ss", "scale", "mAP", "mINP", "rank1"} <= last.keys()
    assert first["stage"] == "tbps" and first["samples"] == 32
    assert last["num_valid"] == 16  # two captions of each of eight test images
    assert first["scale"] == pytest.approx(1 / 0.07, rel=0.1)


@pytest.mark.parametrize("settings", [{}, SIMPLE], ids=["full", "simplified"])
@pytest.mark.parametrize("step", [2, 5])
def test_it_resumes_bit_for_bit_within_an_epoch(run, monkeypatch, settings, step):
    whole = run("whole", settings)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, step)
        run("cut", settings)
    assert_same_run(run("cut", settings, resume=True), whole)


def test_a_test_repeats_the_last_evaluation(run):
    folder = run("whole")
    weight = {"TEST.WEIGHT": str(folder / "toy_2.pth")}
    tested = run("test", weight, program=run_test)
    metrics = json.loads((tested / "metrics.json").read_text())
    last = records(folder)[-1]
    for name in ("mAP", "mINP", "rank1", "rank5", "rank10", "num_valid"):
        assert metrics[name] == pytest.approx(last[name])
    task = RetrievalTask.load(tested / "features.npz")
    ((query, gallery, rule),) = task
    assert (len(query), len(gallery), rule) == (16, 8, "all")
    again = evaluate_text_search(query.features, gallery.features, query.pids, gallery.pids)
    assert again.mAP == pytest.approx(metrics["mAP"]) == evaluate_task(task.normalized()).mAP


def test_captions_for_images(run):
    folder = run("whole", {"SOLVER.MAX_EPOCHS": 1})
    settings = {"TEST.WEIGHT": str(folder / "toy_1.pth"), "TEST.DIRECTION": "image_to_text"}
    tested = run("test", settings, program=run_test)
    ((query, gallery, _),) = RetrievalTask.load(tested / "features.npz")
    assert (len(query), len(gallery)) == (8, 16) and "#" in gallery.keys[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"MODEL.NAME": "toy-resnet", "INPUT.SIZE_TRAIN": "[64, 32]", "INPUT.SIZE_TEST": "[64, 32]"},
        {"MODEL.STRIDE_SIZE": "[4, 8]"},
        {"SOLVER.AMP": "bf16", "TEST.AMP": "bf16"},
        {"TEST.RE_RANKING": True, "TEST.RERANK_K1": 3, "TEST.RERANK_K2": 2},
        {"MODEL.TEXT_LENGTH": 7, "DATALOADER.NUM_WORKERS": 2},
        {"SOLVER.EVAL_PERIOD": 2, "TEST.EVAL_BEFORE_TRAINING": True, "INPUT.ORIENTATION": "exif"},
    ],
    ids=["ResNet", "overlapping patches", "bf16", "re-ranking", "short texts, workers", "before training"],
)
def test_other_settings(run, place, settings):
    if settings.get("MODEL.NAME"):
        settings = settings | {"MODEL.NAME": str(write_tower(place / "resnet.json", "toy-resnet"))}
    lines = records(run("run", settings))
    assert (
        all(line["loss"] < 20 for line in lines if line["stage"] == "tbps") and lines[-1]["num_valid"] == 16
    )
