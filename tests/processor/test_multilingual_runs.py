"""Whole runs of text search on a tiny AltCLIP: files, resuming, tests without the released folder."""

import argparse
import json
import shutil

import pytest

pytest.importorskip("transformers")

from config import cfg_tbps
from config.load import load_config
from processor import METHODS, train
from processor import test as run_test
from tests.altclip import write_altclip
from tests.processor.running import Killed, assert_same_run, kill_at_step, records
from tests.toys import TEXT_SETTINGS, draw_captions, words

ARGS = {"config_file": "", "local_rank": 0, "traceback": False, "opts": []}
OWN = {
    "MODEL.NAME": "AltCLIP",
    "MODEL.TEXT_LENGTH": 16,
    "MODEL.TEXT_DROPOUT": 0.1,
    "SOLVER.SAVE_EVERY_MIN": 1e-9,
    "SOLVER.BASE_LR": 1e-3,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    write_altclip(folder / "hub")
    return draw_captions(folder)


@pytest.fixture
def run(place, tmp_path):
    """run('a', resume=False, KEY=…) -> its output folder."""

    def run(name, settings=(), resume=False, program=train):
        given = TEXT_SETTINGS | OWN | {"DATASETS.ROOT_DIR": str(place)}
        given |= {"MODEL.PRETRAIN_PATH": str(place / "hub"), "OUTPUT_DIR": str(tmp_path / name)}
        given |= {"MODEL.PRETRAIN_CHOICE": "clip"} | dict(settings)
        args = argparse.Namespace(**ARGS, resume=resume)
        program(load_config(cfg_tbps, "", words(given)), args, method=METHODS["tbps"])
        return tmp_path / name

    return run


def test_a_checkpoint_is_tested_and_found_again_without_the_released_folder(run, place, tmp_path):
    folder = run("whole")
    written = {path.name for path in folder.iterdir()}
    assert {"AltCLIP_1.pth", "AltCLIP_1.json", "AltCLIP_2.pth", "tokenizer.json"} <= written
    assert records(folder)[-1]["num_valid"] == 16
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("AltCLIP_2.pth", "AltCLIP_2.json", "tokenizer.json"):
        shutil.copy(folder / name, alone)
    settings = {"MODEL.PRETRAIN_PATH": "", "TEST.WEIGHT": str(alone / "AltCLIP_2.pth")}
    tested = run("tested", settings, program=run_test)
    metrics = json.loads((tested / "metrics.json").read_text())
    assert metrics["mAP"] == pytest.approx(records(folder)[-1]["mAP"], abs=1e-6)


@pytest.mark.parametrize("step", [2, 5])
def test_it_resumes_bit_for_bit(run, monkeypatch, step):
    whole = run("whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, step)
        run("cut")
    assert_same_run(run("cut", resume=True), whole)


def test_parts_train_the_same_weights(run):
    whole, parts = run("whole"), run("parts", {"SOLVER.MICRO_BATCH": 3, "SOLVER.GRAD_CHECKPOINT": True})
    for one, two in zip(records(whole), records(parts), strict=True):
        assert one["loss_nitc"] == pytest.approx(two["loss_nitc"], rel=1e-3)


def test_random_weights_of_the_folders_sizes(run, place):
    folder = run("random", {"MODEL.PRETRAIN_CHOICE": "none"})
    assert "AltCLIP starts from random weights, of the sizes in" in (folder / "train_log.txt").read_text()
