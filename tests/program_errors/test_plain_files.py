"""Pipes, devices and folders in place of files: one line names them, at once, for each input and output."""

import os
import signal

import pytest
import torch

import tools.compare
import tools.evaluate
import tools.explain
import tools.plots
import tools.rank
import tools.threshold
import tools.veri_subjects
from retrieval import FeatureSet

KINDS = {"pipe": "a pipe", "device": "a device", "folder": "a folder"}


@pytest.fixture(autouse=True)
def at_once():
    """A test that blocks fails."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it blocks"))
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(params=KINDS)
def odd(request, tmp_path):
    """odd('name') -> (path, what it is): something else than a file at a path."""

    def make(name):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        return path, f"{path} is {KINDS[request.param]}; allowed: a plain file"

    return make


@pytest.mark.parametrize(
    ("program", "key", "name"),
    [
        ("train.py", "MODEL.PRETRAIN_PATH", "clip.pt"),
        ("train.py", "MODEL.NAME", "tower.json"),
        ("train_clipreid.py", "MODEL.STAGE1_WEIGHT", "stage1.pth"),
        ("train.py", "MODEL.REID_WEIGHT", "reid.pth"),
        ("test.py", "TEST.WEIGHT", "reid.pth"),
        ("test.py", "TEST.WEIGHT", "reid.safetensors"),
    ],
)
def test_inputs_of_programs(refused, odd, program, key, name):
    path, told = odd(name)
    pairs = ("MODEL.PRETRAIN_CHOICE", "imagenet") if key == "MODEL.PRETRAIN_PATH" else ()
    refused(program, *pairs, key, str(path), told=[told])


def test_model_cards(refused, odd, tmp_path):
    _, told = odd("reid.json")
    torch.save({}, tmp_path / "reid.pth")
    refused("test.py", "TEST.WEIGHT", str(tmp_path / "reid.pth"), told=[told])


@pytest.mark.parametrize(("name", "file"), [("csv", "data/dataset.csv"), ("msmt17", "MSMT17/list_train.txt")])
def test_tables_of_data_sets(refused, odd, tmp_path, name, file):
    _, told = odd(file)
    for folder in ("data", "MSMT17/train", "MSMT17/test"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    root = tmp_path / "data" if name == "csv" else tmp_path
    refused("train.py", "DATASETS.NAMES", name, "DATASETS.ROOT_DIR", str(root), told=[told])


def test_configurations(refused, odd):
    path, told = odd("run.yml")
    refused("train.py", options=["--config_file", str(path)], told=[told])


@pytest.mark.parametrize("name", ["train_log.txt", "metrics.jsonl", "config.yml", "last.pt"])
def test_outputs_of_training(refused, odd, name):
    _, told = odd(f"logs/{name}")
    refused("train_clipreid.py", told=[told], options=["--resume"] if name == "last.pt" else [])


@pytest.mark.parametrize("name", ["test_log.txt", "features.npz", "metrics.json"])
def test_outputs_of_tests(refused, odd, name, tmp_path):
    _, told = odd(f"logs/{name}")
    refused("test.py", "TEST.WEIGHT", str(tmp_path / "gone.pth"), told=[told])


@pytest.fixture
def features(tmp_path):
    rows = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.1, 1.0]]
    FeatureSet(rows, [1, 1, 2, 2], [1, 2, 1, 2], list("abcd")).save(tmp_path / "features.npz")
    return str(tmp_path / "features.npz")


@pytest.mark.parametrize(
    ("main", "words", "name"),
    [
        (tools.compare.main, ["FOLDER"], "features.npz"),
        (tools.compare.main, ["FOLDER"], "config.yml"),
        (tools.compare.main, ["SCORES", "--out", "ODD"], "odd.md"),
        (tools.explain.main, ["FOLDER"], "receipt.json"),
        (tools.explain.main, ["FOLDER"], "config.yml"),
        (tools.explain.main, ["FOLDER"], "metrics.json"),
        (tools.evaluate.main, ["--features", "ODD"], "odd.npz"),
        (tools.evaluate.main, ["--features", "FEATURES", "--gallery", "ODD"], "odd.npz"),
        (tools.evaluate.main, ["--features", "FEATURES", "--out", "ODD"], "odd.json"),
        (tools.threshold.main, ["--features", "FEATURES", "--out", "FOLDER"], "threshold.json"),
        (tools.rank.main, ["--features", "FEATURES", "--out", "FOLDER"], "ranking.html"),
        (tools.rank.main, ["--features", "FEATURES", "--out", "FOLDER", "--weight", "ODD"], "reid.pth"),
        (tools.plots.main, ["cmc", "--out", "FOLDER/a.png", "ODD"], "metrics.json"),
        (tools.plots.main, ["training", "--out", "FOLDER/a.png", "ODD"], "metrics.jsonl"),
        (tools.plots.main, ["cmc", "--out", "ODD", "SCORES"], "odd.png"),
        (tools.veri_subjects.main, ["--out", "a.json", "--root", "FOLDER"], "list_type.txt"),
        (
            tools.veri_subjects.main,
            ["--out", "a.json", "--root", "FOLDER", "--types", "TYPES"],
            "train_label.xml",
        ),
    ],
)
def test_tools(odd, features, capsys, tmp_path, main, words, name):
    path, told = odd(f"out/{name}")
    scores = tmp_path / "scores.json"
    scores.write_text('{"cmc": [0.5, 1.0], "mAP": 0.5}')
    types = tmp_path / "types.txt"
    types.write_text("1 bus")
    places = {"ODD": path, "FEATURES": features, "FOLDER": tmp_path / "out"}
    places |= {"SCORES": scores, "TYPES": types}
    for place, there in places.items():
        words = [word.replace(place, str(there)) for word in words]
    if name.startswith("metrics.json") and path.is_dir():
        pytest.skip("a folder may have such a file in it")
    with pytest.raises(SystemExit) as end:
        main(words)
    err = capsys.readouterr().err
    assert end.value.code == 2 and told in err and err.startswith("error: ") and err.count("\n") == 1
    assert path.exists() and not path.is_file()  # nothing took its place
