"""Trainings without a receipt."""

import json

import pytest

from config import cfg
from config.load import load_config
from tools.explaining.causes import find_causes
from tools.explaining.page import make_case
from tools.explaining.reading import read_known

BEGUN = "2026-05-04 08:00:00,123 transreid INFO: Saving model in the path :logs/a\n"
ENDED = "2026-05-04 09:00:00,123 transreid INFO: finished: stage1, stage2\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with settings of a training of 60 epochs."""
    (tmp_path / "config.yml").write_text(load_config(cfg, "configs/person/vit_clipreid.yml", []).dump())
    return tmp_path


@pytest.mark.parametrize(
    ("log", "last", "status"),
    [
        (BEGUN + ENDED, ("stage2", 59), "finished"),
        (BEGUN, ("stage2", 60), "finished"),  # of code that wrote no line at the end
        (BEGUN + ENDED + BEGUN, ("stage2", 59), "running"),
        (BEGUN, ("stage0", 60), "running"),
        (BEGUN, ("stage1", 60), "running"),
        (None, ("stage2", 60), "finished"),
        (None, ("stage2", 59), "running"),
        (None, None, ""),
    ],
)
def test_the_end_of_a_training_is_known_from_its_log_or_its_course(folder, log, last, status):
    if log is not None:
        (folder / "train_log.txt").write_text(log)
    if last is not None:
        (folder / "metrics.jsonl").write_text(json.dumps(dict(zip(("stage", "epoch"), last, strict=True))))
    known = read_known(folder)
    assert known.train and known.train.status == status
    assert any("whether the training ended is not known" in note for note in known.notes) == (not status)
    assert [cause.what for cause in find_causes(make_case(known))] == ["training"] * (status == "running")


def test_numbers_are_those_of_the_last_evaluation(folder):
    epoch = {"stage": "stage2", "epoch": 60, "mAP": 0.5, "rank1": 0.25, "rank5": "odd"}
    (folder / "metrics.jsonl").write_text(json.dumps(epoch))
    train = read_known(folder).train
    assert train and train.metrics == {"mAP": 0.5, "rank1": 0.25}


def test_the_file_of_the_last_epoch_tells_the_end_where_nothing_else_does(folder):
    (folder / "train_log.txt").write_text(BEGUN)
    (folder / "ViT-B-16_60.pth").touch()
    assert make_case(read_known(folder)).train.status == "finished"
    settings = (folder / "config.yml").read_text()
    (folder / "config.yml").write_text(settings.replace("MAX_EPOCHS: 60", "MAX_EPOCHS: odd"))
    assert make_case(read_known(folder)).train.status == "running"
