"""A small retrieval task with images on disk, and what tools/rank.py makes of it, read back."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from retrieval import FeatureSet, RetrievalTask
from tests.tools.pages import Page
from tools.rank import main

SIZE = (48, 24)
QUERIES = ("query/1_c0.jpg", "query/2_c0.jpg", "query/1_c1.jpg")
GALLERY = ("gallery/1_c1.jpg", "gallery/2_c1.jpg", "gallery/x_c1.jpg", "gallery/1_c0.jpg")
COLOURS = {"query/1_c0.jpg": (200, 0, 200), "gallery/2_c1.jpg": (0, 90, 200), "gallery/1_c1.jpg": (90, 60, 0)}


def save_image(path, colour=(120, 130, 140), size=SIZE):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], colour).save(path, quality=95)


def make_task(root="", **info):
    """Query 0 finds 2, x, then its match; query 1 its match first; query 2 x, 2, then its match."""
    query = FeatureSet(
        torch.tensor([[0.0], [1.1], [9.0]]), [1, 2, 1], [0, 0, 1], [f"{root}{path}" for path in QUERIES]
    )
    gallery = FeatureSet(
        torch.tensor([[3.0], [1.0], [2.0], [0.0]]),
        [1, 2, -1, 1],
        [1, 1, 1, 0],
        [f"{root}{path}" for path in GALLERY],
    )
    both = RetrievalTask.between(query, gallery)
    return RetrievalTask(both.images, both.trials, {"normalize": False} | info)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The working folder, with images and features.npz: names, sizes and colours of what is there."""
    monkeypatch.chdir(tmp_path)
    for path in QUERIES + GALLERY:
        save_image(path, **({"colour": COLOURS[path]} if path in COLOURS else {}))
    make_task(dataset="market1501", model="toy-vit", size=SIZE).save("features.npz")
    return SimpleNamespace(
        folder=tmp_path,
        queries=QUERIES,
        gallery=GALLERY,
        colours=COLOURS,
        size=SIZE,
        task=make_task,
        save_image=save_image,
    )


@pytest.fixture
def run(small):
    """run('--top', '3') -> the page in out/."""

    def run_tool(*options):
        assert main(["--features", "features.npz", "--out", "out", *options]) == 0
        return Page(Path("out/ranking.html").read_text("utf-8"))

    return run_tool


@pytest.fixture
def refused(small, capsys):
    """refused('--top', '0') -> what stands on stderr."""

    def run_tool(*options):
        with pytest.raises(SystemExit) as end:
            main(["--features", "features.npz", "--out", "out", *options])
        assert end.value.code == 2
        return capsys.readouterr().err

    return run_tool
