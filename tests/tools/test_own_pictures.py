"""Query images that are in the gallery too: the same figures however they got there, from every tool."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from config import cfg
from config.load import load_config
from datasets import make_dataset, read_image
from processor import make_task
from retrieval import FeatureSet, RetrievalTask, evaluate_task
from tools import evaluate, rank, threshold

IDENTITIES, IMAGES = "abc", 3


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """people/gallery in the working folder: nine images, no camera."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for identity in IDENTITIES:
        (tmp_path / "people" / "gallery" / identity).mkdir(parents=True)
        clothes = generator.integers(60, 140, size=3)
        for number in range(IMAGES):
            pixels = clothes + generator.integers(-60, 60, size=3) + np.zeros((8, 4, 1))
            path = tmp_path / "people" / "gallery" / identity / f"{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "people" / "gallery"


def list_in_csv(gallery):
    """Each image as a query by its path below the root, and in the gallery by its absolute path."""
    with open(gallery.parent / "dataset.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "pid", "split"])
        for path in sorted(gallery.rglob("*.png")):
            writer.writerow([path.relative_to(gallery.parent), path.parent.name, "query"])
            writer.writerow([path, path.parent.name, "gallery"])


QUERIES = {
    "copies": lambda gallery: shutil.copytree(gallery, gallery.parent / "query"),
    "links": lambda gallery: shutil.copytree(gallery, gallery.parent / "query", copy_function=os.symlink),
    "hard links": lambda gallery: shutil.copytree(gallery, gallery.parent / "query", copy_function=os.link),
    "a linked folder": lambda gallery: (gallery.parent / "query").symlink_to("gallery"),
    "list": list_in_csv,
}
CASES = [*((kind, "people") for kind in QUERIES), ("list", "absolute"), ("a linked folder", "absolute")]


def features(records):
    """The mean colour of each image."""
    colours = [np.asarray(read_image(record.path), dtype=np.float32).mean((0, 1)) for record in records]
    fields = ([getattr(record, name) for record in records] for name in ("pid", "camid", "path", "key"))
    return FeatureSet(np.stack(colours), *fields)


@pytest.mark.parametrize(("kind", "root"), CASES)
def test_figures_do_not_depend_on_how_queries_are_in_the_gallery(gallery, kind, root, capsys):
    QUERIES[kind](gallery)
    name, root = "csv" if kind == "list" else "folder", str(gallery.parent) if root == "absolute" else root
    config = load_config(cfg, "", ["DATASETS.NAMES", name, "DATASETS.ROOT_DIR", root])
    dataset = make_dataset(config, need_train=False)
    task = make_task(features(dataset.test_records()), dataset.trials, {"normalize": False})
    expected = evaluate_task(RetrievalTask.all_against_all(features(dataset.gallery)))
    assert 0.3 < expected.mAP < 0.9 and expected.num_valid == 9
    task.save("features.npz")
    shutil.rmtree(gallery.parent)  # from here on, only the file knows which pictures are the same
    assert_metrics(evaluate_task(task), expected)
    capsys.readouterr()
    assert evaluate.main(["--features", "features.npz", "--out", "metrics.json"]) == 0
    assert "9 of 9 queries are in the gallery themselves" in capsys.readouterr().out
    written = json.loads(Path("metrics.json").read_text())
    assert (written["mAP"], written["cmc"]) == (expected.mAP, expected.cmc.tolist())
    assert threshold.main(["--features", "features.npz", "--out", "threshold"]) == 0
    found = json.loads(Path("threshold/threshold.json").read_text())
    assert found["same_pairs"] == 9 * (IMAGES - 1) and found["different_pairs"] == 9 * 6
    assert rank.main(["--features", "features.npz", "--out", "ranking", "--worst", "9", "--top", "9"]) == 0
    page = Path("ranking/ranking.html").read_text()
    precisions = [float(text) for text in re.findall(r"<b>AP ([\d.]+)%</b>", page)]
    assert len(precisions) == 9 and np.mean(precisions) / 100 == pytest.approx(expected.mAP, abs=1e-3)
    assert page.count("<li>") == 9 * 8


def assert_metrics(metrics, expected):
    assert metrics.cmc.tolist() == expected.cmc.tolist()
    assert (metrics.mAP, metrics.mINP, metrics.num_valid) == (expected.mAP, expected.mINP, expected.num_valid)


def test_copies_are_found_across_two_feature_files(tmp_path, monkeypatch):
    """Files as tools/extract.py writes them, one of them of a version without pictures."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "copy.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"b" if name == "b.jpg" else b"a")
    FeatureSet(torch.ones(1, 1), [-1], [-1], ["a.jpg"]).with_pictures().save("query.npz")
    FeatureSet(torch.ones(2, 1), [-1, -1], [-1, -1], ["copy.jpg", "b.jpg"]).save("gallery.npz")
    options = ["--features", "query.npz", "--gallery", "gallery.npz", "--out", "out", "--queries", "0"]
    assert rank.main(options) == 0
    page = Path("out/ranking.html").read_text()
    assert page.count("<li>") == 1 and "b.jpg" in page


def test_a_photo_without_camera_is_not_found_in_a_gallery_with_cameras(tmp_path, monkeypatch):
    """A photo in the features of a test, where its file has another spelling and a camera."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    FeatureSet(torch.ones(1, 1), [-1], [-1], ["a"]).with_pictures().save("one.npz")
    paths = [str(tmp_path / name) for name in "ab"]
    gallery = FeatureSet(torch.ones(2, 1), [1, 1], [0, 1], paths)
    RetrievalTask.between(gallery.select([0]), gallery.select([1])).save("features.npz")
    options = ["--features", "one.npz", "--gallery", "features.npz", "--out", "out"]
    assert rank.main(options) == 0
    page = Path("out/ranking.html").read_text()
    assert page.count("<li>") == 1 and f'title="{paths[1]}"' in page
