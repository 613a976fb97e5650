"""A small retrieval task with images on disk, and what tools/rank.py makes of it, read back."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from retrieval import FeatureSet, RetrievalTask
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


class Page(HTMLParser):
    """The elements of a page: (tag, attributes, text up to the next tag)."""

    def __init__(self, source):
        super().__init__()
        self.elements = []
        self.source = source
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        self.elements.append([f"/{tag}", {}, ""])

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2] += data

    def all(self, tag, of_class=None):
        """(attributes, text) of the elements."""
        return [
            (attributes, text.strip())
            for name, attributes, text in self.elements
            if name == tag and of_class in (None, attributes.get("class"))
        ]

    def labels(self):
        return [text for _, text in self.all("span", "label")]

    def queries(self):
        return [attributes["id"] for attributes, _ in self.all("section")]

    def alts(self):
        return [attributes["alt"] for attributes, _ in self.all("img")]

    def pictures(self):
        return [decoded(attributes["src"]) for attributes, _ in self.all("img")]


def decoded(uri):
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


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


@pytest.fixture(scope="session")
def read_page():
    """read_page(html) -> Page."""
    return Page
