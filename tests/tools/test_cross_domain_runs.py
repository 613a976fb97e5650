"""The published form of a table across domains, from toy runs on drawn people."""

import argparse
import json
import os
import re
import shutil

import pytest

from config import cfg, cfg_base
from config.load import load_config
from datasets.drawn import FOLDER, draw_market1501
from processor import METHODS, train
from processor import test as run_test
from retrieval import RetrievalTask, evaluate_task, metric_intervals
from tests.toys import SETTINGS, words
from tools.cross_domain import main, run_table

NAMES = {"m2d": "Market-1501 -> DukeMTMC-reID", "d2m": "DukeMTMC-reID -> Market-1501"}
EPOCHS = {"MAX_EPOCHS": 2, "IMS_PER_BATCH": 4, "CHECKPOINT_PERIOD": 1, "EVAL_PERIOD": 2}
ARGS = {"config_file": "", "local_rank": 0, "traceback": False, "opts": [], "resume": False}


def start_training(folder, data, method, **changes):
    stage = "SOLVER.STAGE2." if method == "clipreid" else "SOLVER."
    settings = SETTINGS | {f"{stage}{key}": value for key, value in EPOCHS.items()} | changes
    settings |= {"DATASETS.ROOT_DIR": data, "OUTPUT_DIR": folder, "SOLVER.SEED": 1}
    if method == "clipreid":
        settings |= {"SOLVER.STAGE1.MAX_EPOCHS": 1}
    config = load_config(cfg if method == "clipreid" else cfg_base, "", [*map(str, words(settings))])
    train(config, argparse.Namespace(**ARGS), method=METHODS[method])


@pytest.fixture(scope="module")
def drawn(toy_towers, tmp_path_factory):
    """A folder with two data sets and a run of each method, trained on the one and to be tested on the other.

    The run of one stage was made by several processes, as far as its settings say.
    """
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        draw_market1501(
            folder / f"set{seed}",
            train_ids=4,
            test_ids=8,
            images_per_camera=2,
            cameras=2,
            distractors=1,
            size=(32, 16),
            seed=seed,
        )
    (folder / "set1" / FOLDER).rename(folder / FOLDER)
    for image in sorted((folder / "set2" / FOLDER).rglob("*.jpg")):
        pid, camera, number = re.match(r"(-?\d+)_(c\d)s1_(\d+)", image.name).groups()
        if int(pid) > 0:
            target = folder / "dukemtmcreid" / "DukeMTMC-reID" / image.parent.name
            target.mkdir(parents=True, exist_ok=True)
            image.rename(target / f"{pid}_{camera}_f{number}.jpg")
    two = {"DATASETS.NAMES": "market1501", "DATASETS.TEST": "dukemtmc", "TEST.AUGMENT": "flip_crop"}
    start_training(folder / "m2d", folder, "clipreid", **two)
    start_training(
        folder / "d2m", folder, "baseline", **{"DATASETS.NAMES": "dukemtmc", "DATASETS.TEST": "market1501"}
    )
    file = folder / "d2m" / "config.yml"
    file.write_text(file.read_text().replace("DIST_TRAIN: false", "DIST_TRAIN: true"))
    return folder


@pytest.fixture
def place(drawn, tmp_path):
    """A copy of the runs, which a test may change."""
    for name in NAMES:
        shutil.copytree(drawn / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def start(*options):
        status = 0
        try:
            main([*map(str, options)])
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return start


def results(place):
    return json.loads((place / "logs" / "cross_domain" / "cross_domain.json").read_text())


def test_the_published_form(run, place):
    status, out, err = run("--run", place / "m2d", "--run", place / "d2m")
    assert (status, err) == (0, "")
    found = results(place)
    assert [result["run"] for result in found] == list(NAMES.values())
    assert found[0]["trained_on"] == ["Market-1501"] and found[0]["tested_on"] == "DukeMTMC-reID"
    assert [result["weight"] for result in found] == [str(place / name / "toy-vit_2.pth") for name in NAMES]
    for name, result in zip(NAMES, found, strict=True):
        last = json.loads((place / name / "metrics.jsonl").read_text().splitlines()[-1])
        shown = ("mAP", "mINP", "rank1", "rank5", "rank10")
        assert {key: result[key] for key in shown} == {key: last[key] for key in shown}
        assert result["features"] is None and (result["bootstrap_rounds"], result["seed"]) == (1000, 0)
        for key in shown:
            low, high = result["intervals"][key]
            assert low <= result[key] <= high
        assert result["intervals"]["mAP"][0] < result["intervals"]["mAP"][1]
    assert run_table(found) in out
    assert (place / "logs" / "cross_domain" / "cross_domain.md").read_text() == f"{run_table(found)}\n"
    written = results(place)
    run("--run", place / "m2d", "--run", place / "d2m")
    assert results(place) == written


def test_table():
    values = {"rank1": 0.699, "rank5": 0.815, "rank10": 0.8544, "mAP": 0.5}
    intervals = {name: (value - 0.01, value + 0.02) for name, value in values.items()}
    rows = [{"run": "a -> b", **values}, {"run": "b\n", **values, "intervals": intervals}]
    assert run_table(rows).splitlines() == [
        "| trained on -> tested on, in % | Rank-1 | Rank-5 | Rank-10 | mAP |",
        "| --- | --- | --- | --- | --- |",
        "| a -> b | 69.9 | 81.5 | 85.4 | 50.0 |",
        "| b\\n | 69.9 [68.9, 71.9] | 81.5 [80.5, 83.5] | 85.4 [84.4, 87.4] | 50.0 [49.0, 52.0] |",
    ]


def test_options(run, place):
    """A label of one's own, a test set for all runs, another folder, no intervals."""
    options = ["--run", f"mine={place / 'd2m'}", "--bootstrap", 0]
    assert run(*options, "DATASETS.TEST", "dukemtmc", "OUTPUT_DIR", place / "out")[0] == 0
    (result,) = json.loads((place / "out" / "cross_domain.json").read_text())
    assert result["run"] == "mine" and result["tested_on"] == "DukeMTMC-reID" and "intervals" not in result


def test_images_are_checked_once(run, place, monkeypatch):
    """The two data sets, of which one is tested twice."""
    seen = []
    monkeypatch.setattr(
        "processor.make_parts.verify_images", lambda records, *_, **__: seen.append(len(records))
    )
    options = ["--run", f"a={place / 'm2d'}", "--run", f"b={place / 'm2d'}", "--run", place / "d2m"]
    assert run(*options)[0] == 0 and len(results(place)) == 3
    assert len(seen) == 2


def leave_features(place):
    """The features of a test of the run, in its folder."""
    pairs = {"TEST.WEIGHT": place / "m2d" / "toy-vit_2.pth", "OUTPUT_DIR": place / "m2d"}
    config = load_config(cfg, place / "m2d" / "config.yml", [*map(str, words(pairs))])
    run_test(config, argparse.Namespace(config_file="", opts=[]), method=METHODS["clipreid"])
    return place / "m2d" / "features.npz"


def test_features_of_a_test_are_used_again(run, place, monkeypatch):
    file = leave_features(place)
    with monkeypatch.context() as patch:
        patch.setattr("processor.extract_task", None)
        assert run("--run", place / "m2d")[0] == 0
    (result,) = results(place)
    metrics = evaluate_task(RetrievalTask.load(file).normalized())
    assert result["features"] == str(file) and result["mAP"] == metrics.mAP
    expected = metric_intervals(metrics.scores)
    assert result["intervals"] == {name: list(found) for name, found in expected.items()}


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (None, ["TEST.AUGMENT", "none"], "another augment"),
        (None, ["SOLVER.SEED", "2"], "another seed"),
        (None, ["TEST.NECK_FEAT", "before"], "another neck_feature"),
        (None, ["DATASETS.TEST", "market1501"], "another dataset"),
        (lambda place: os.utime(place / "m2d" / "toy-vit_2.pth", (2e9, 2e9)), [], "toy-vit_2.pth is newer"),
        (lambda place: (place / "m2d" / "features.npz").write_text("no"), [], "is not a feature file"),
        (
            lambda place: shutil.copy(place / "m2d" / "toy-vit_2.pth", place / "m2d" / "toy-vit_3.pth"),
            [],
            "its weight is",
        ),
    ],
)
def test_features_of_another_test_are_not(run, place, change, options, reason):
    leave_features(place)
    if change:
        change(place)
    status, _, err = run("--run", place / "m2d", *options)
    assert (status, err) == (0, "") and results(place)[0]["features"] is None
    lines = (place / "logs" / "cross_domain" / "cross_domain_log.txt").read_text().splitlines()
    (line,) = [line for line in lines if "features.npz is not used" in line]
    assert reason in line


def test_fused_features_are_not(run, place):
    file = leave_features(place)
    task = RetrievalTask.load(file)
    RetrievalTask(task.images, task.trials, {**task.info, "attributes": {"weight": 1.0}}).save(file)
    assert run("--run", place / "m2d")[0] == 0 and results(place)[0]["features"] is None
    log = (place / "logs" / "cross_domain" / "cross_domain_log.txt").read_text()
    assert f"{file} is not used: its features are fused with probabilities of attributes" in log


def test_features_of_other_images_are_not(run, place):
    file = leave_features(place)
    task = RetrievalTask.load(file)
    RetrievalTask(task.images, task.swapped().trials, task.info).save(file)
    assert run("--run", place / "m2d")[0] == 0 and results(place)[0]["features"] is None


def test_a_run_that_did_not_end(run, place):
    (place / "m2d" / "toy-vit_2.pth").unlink()
    assert run("--run", place / "m2d")[0] == 0
    log = (place / "logs" / "cross_domain" / "cross_domain_log.txt").read_text()
    assert "toy-vit_1.pth is of epoch 1, the run has 2" in log


def no_config(place):
    (place / "m2d" / "config.yml").unlink()


def no_checkpoint(place):
    for file in (place / "m2d").glob("*.pth"):
        if "stage1" not in file.name:
            file.unlink()


def of_text_search(place):
    (place / "m2d" / "config.yml").write_text("MODEL:\n  TEXT_LENGTH: 77\n")


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        (no_config, ["--run", "m2d"], ["m2d has no config.yml"]),
        (no_checkpoint, ["--run", "m2d"], ["m2d has no checkpoint toy-vit_EPOCH.pth"]),
        (of_text_search, ["--run", "m2d"], ["config.yml", "MODEL.TEXT_LENGTH", "train_tbps.py"]),
        (None, ["--run", "gone"], ["gone has no config.yml"]),
        (None, ["--run", "m2d", "--run", "./m2d"], ["m2d and m2d", NAMES["m2d"], "LABEL=FOLDER"]),
        (None, ["--run", "x=m2d", "--run", "x=d2m"], ["m2d and d2m", "'x'"]),
        (None, ["--run", "m2d", "--data", "market1501"], ["--run", "--data"]),
        (None, ["--run", "m2d", "--config_file", "prompts/coop.yml"], ["--config_file"]),
        (None, ["--run", "m2d", "TEST.WEIGHT", "a.pth"], ["TEST.WEIGHT"]),
        (None, ["--run", "m2d", "--seed", "-1"], ["seed", "-1"]),
        (None, ["--run", "m2d", "DATASETS.ROOT_DIR", "nowhere"], ["nowhere"]),
    ],
)
def test_errors_in_one_line(run, place, change, options, told):
    if change:
        change(place)
    status, out, err = run(*options)
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert all(text in err for text in told), err
    assert "Validation Results" not in out
