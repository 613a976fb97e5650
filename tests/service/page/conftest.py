"""A small gallery of plain people, its page on a server of this process, and a browser."""

import io
import shutil
from contextlib import contextmanager
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from retrieval import Gallery, Metadata
from service import Finder

BAD_NAME = "<img src=x onerror=window.hacked=1>"
BAD_TEMPLATE = "${window.hacked=2}{{window.hacked=3}}`"
PEOPLE = {
    "Anna": (200, 30, 30),
    "王小明": (30, 60, 200),
    BAD_NAME: (40, 160, 60),
    BAD_TEMPLATE: (120, 120, 20),
}
CAMERAS = ("gate", "hall", "大厅")


def photo(colour, seed=0, form="PNG"):
    """The bytes of a picture of somebody in such clothes."""
    noise = np.random.default_rng(seed).integers(-25, 25, (64, 32, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form)
    return data.getvalue()


def fill(finder):
    """Each of the people on two days, at all cameras; the keys by name."""
    keys = {}
    for number, (name, colour) in enumerate(PEOPLE.items()):
        for day in (4, 5):
            for hour, camera in enumerate(CAMERAS, start=8):
                facts = Metadata(identity=name, camera=camera, time=datetime(2026, 5, day, hour, 30))
                entry = finder.add(photo(colour, seed=100 * number + 10 * day + hour), facts)
                keys.setdefault(name, []).append(entry.key)
    return keys


@contextmanager
def made_finder(folder, model, text_model):
    models = {"reid": model.space_model, "text": text_model.space_model}
    with Gallery.create(folder / "gallery.db", models) as gallery:
        finder = Finder(gallery, model, text_model, folder / "pictures")
        fill(finder)
        yield finder
        finder.close()


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium on PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
