"""Runs on several training sets, tested on one of them or on another one, and tests of their weights."""

import argparse
import csv
import json
import shutil

import pytest

from tests.processor.running import last, run_test
from tests.toys import save_noise

ARGS = argparse.Namespace(config_file="", opts=[])
CLUSTERS = (
    "MODEL.ID_LOSS_WEIGHT",
    0.0,
    "CLUSTER.METHOD",
    "dbscan",
    "CLUSTER.MIN_SAMPLES",
    1,
    "CLUSTER.K1",
    2,
    "CLUSTER.K2",
    1,
)
BOTH = ("DATASETS.TRAIN_ALSO", "folder")
SIE = ("MODEL.SIE_CAMERA", True, "MODEL.SIE_COE", 3.0)
METRICS = ("mAP", "mINP", "rank1", "num_valid")


@pytest.fixture
def sets(market_tree, tmp_path):
    """Keys of a ROOT_DIR with a Market-1501, a folder of two identities and the same as csv; two cameras."""
    root = tmp_path / "sets"
    shutil.copytree(market_tree, root)
    people = {"train": ("anna", "ben"), "query": ("carl",), "gallery": ("carl", "dora")}
    rows = [
        (f"{split}/{person}/a_c{camera}.png", person, split, camera)
        for split in people
        for person in people[split]
        for camera in (1, 2)
    ]
    for seed, (path, *_) in enumerate(rows):
        save_noise(root / path, seed)
    with (root / "dataset.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "pid", "split", "camid"), *rows])
    return "DATASETS.ROOT_DIR", str(root)


@pytest.mark.parametrize(
    ("method", "pairs"),
    [
        ("baseline", ("MODEL.PCL_LOSS_WEIGHT", 1.0)),
        ("clipreid", ()),
        ("pcl", ()),
        ("pcl", CLUSTERS),
    ],
)
def test_every_method_trains_on_both(trained, sets, method, pairs):
    _, folder = trained(method, *BOTH, *sets, *pairs)
    assert (last(folder)["images"], last(folder)["identities"]) == (12, 6)
    card = json.loads((folder / "toy-vit_2.json").read_text())
    assert (card["data"], card["cameras"]) == ("market1501+folder", {"market1501": 2, "folder": 2})
    assert card["classes"] == (0 if pairs == CLUSTERS else 6)
    log = (folder / "train_log.txt").read_text()
    assert "train        |      6 |       12 |         4\n" in log
    assert "- market1501 |      4 |        8 |         2\n" in log
    assert "- folder     |      2 |        4 |         2\n" in log


def test_phrases_are_for_the_first_set(trained, sets, tmp_path):
    """Although both sets have the identity."""
    root = tmp_path / "sets"
    (root / "train" / "ben").rename(root / "train" / "0002")
    (tmp_path / "a.json").write_text('{"2": "tall man"}')
    names = ("DATASETS.NAMES", "market1501", *BOTH, "MODEL.PROMPT.SUBJECTS", str(tmp_path / "a.json"))
    _, folder = trained("clipreid", *sets, *names)
    log = (folder / "train_log.txt").read_text()
    assert "a.json: 1 of 4 identities have a phrase" in log
    assert "a.json is for market1501: 2 identities of DATASETS.TRAIN_ALSO keep 'person'" in log


@pytest.mark.parametrize(
    ("also", "test", "queries", "told"),
    [
        ("folder", "", 6, "SIE by camera (4 rows)"),
        ("folder", "folder", 2, "SIE by camera (4 rows), those of folder from camera 2 on"),
        ("", "folder", 2, "SIE by the mean row: the table is of market1501, not of folder"),
        ("folder", "csv", 2, "SIE by the mean row: the table is of market1501, folder, not of csv"),
    ],
)
def test_a_test_has_the_numbers_of_the_evaluation_in_training(
    trained, toy_config, sets, tmp_path, also, test, queries, told
):
    """The card says which rows are a camera's, whether the test has the training's keys or only a name."""
    keys = ("DATASETS.TRAIN_ALSO", also, "DATASETS.TEST", test)
    both = (*sets, "TEST.NECK_FEAT", "after")
    _, folder = trained("baseline", *both, *SIE, *keys, "MAIN.BASE_LR", 0.02)
    wanted = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert wanted["num_valid"] == queries
    weight = ("TEST.WEIGHT", str(folder / "toy-vit_2.pth"), "OUTPUT_DIR", str(tmp_path / "test"))
    for given in (keys, ("DATASETS.NAMES", test or "market1501")):
        run_test(toy_config(*both, *weight, *given), ARGS)
        found = json.loads((tmp_path / "test" / "metrics.json").read_text())
        assert {name: found[name] for name in METRICS} == {name: wanted[name] for name in METRICS}
        assert found["dataset"] == (test or "market1501")
        (line,) = [
            line for line in (tmp_path / "test" / "test_log.txt").read_text().splitlines() if "SIE by" in line
        ]
        assert line.endswith(f": {told}")
        shutil.rmtree(tmp_path / "test")


@pytest.mark.parametrize(("key", "value"), [("DATASETS.TRAIN_ALSO", ""), ("DATASETS.TRAIN_ALSO", "csv")])
def test_other_training_sets_are_another_run(trained, sets, key, value):
    trained("baseline", *BOTH, *sets)
    with pytest.raises(ValueError, match=f"{key} is {value!r}, but the run in .* has 'folder'"):
        trained("baseline", *sets, key, value, resume=True)


def test_side_information_needs_every_camera(trained, sets, tmp_path):
    save_noise(tmp_path / "sets" / "train" / "ben" / "new.png")
    with pytest.raises(ValueError, match=r"SIE_CAMERA is True but no camera is known of .*new\.png"):
        trained("baseline", *BOTH, *sets, *SIE)
