"""The page in a browser: all of it is there, and the pictures are seen."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sentences import LEFTWARD, SENTENCES
from tests.tools.captions import CAPTIONS, caption_task
from tests.tools.pages import Page
from tools.rank import main

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def chromium(tmp_path):
    """chromium('--dump-dom', page) -> what it prints."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium on PATH")

    def run_browser(*options):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [program, *FLAGS, profile, *options]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    return run_browser


def test_the_page_is_seen(small, run, chromium):
    page = run("--queries", "0")
    address = Path("out/ranking.html").resolve().as_uri()
    shown = Page(chromium("--dump-dom", address))
    assert shown.alts() == page.alts() and shown.labels() == page.labels()
    chromium("--screenshot=page.png", "--window-size=900,700", address)
    with Image.open("page.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    # The pictures are of one colour each, which is nowhere else on the page.
    for colour in small.colours.values():
        assert (np.abs(pixels - colour).max(axis=1) < 6).sum() > 2000
    # Frames: right, wrong, query.
    for colour in ((15, 157, 88), (217, 48, 37), (26, 86, 219)):
        assert (pixels == colour).all(axis=1).sum() > 300


def test_texts_are_seen(chromium, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    caption_task(Path("imgs")).save("features.npz")
    for swap in ([], ["--swap"]):
        assert main(["--features", "features.npz", "--out", "out", "--queries", "0", "5", *swap]) == 0
        address = Path("out/ranking.html").resolve().as_uri()
        texts = [text for _, text in Page(chromium("--dump-dom", address)).all("p", "text")]
        assert sorted(texts) == sorted(2 * CAPTIONS if swap else [CAPTIONS[0], CAPTIONS[5]])
        chromium("--screenshot=page.png", "--window-size=900,700", address)
        with Image.open("page.png") as image:
            pixels = np.asarray(image.convert("RGB"))
        framed = (pixels == (26, 86, 219)).all(axis=2)
        columns = np.flatnonzero(framed.any(axis=0))
        width = columns[-1] - columns[0]
        assert 60 < width < 130 if swap else 180 < width < 240  # a picture is narrower than a text


@pytest.mark.parametrize("language", SENTENCES)
def test_lines_begin_where_their_script_does(chromium, tmp_path, monkeypatch, language):
    monkeypatch.chdir(tmp_path)
    caption_task(Path("imgs"), [SENTENCES[language], *CAPTIONS[1:]]).save("features.npz")
    assert main(["--features", "features.npz", "--out", "out", "--queries", "0", "--top", "1"]) == 0
    # Where the first letter is, from 0, the left of its box, to 1; and whether the text stays in it.
    script = """<script>
        const box = document.querySelector("p.text"), node = box.firstChild, range = document.createRange();
        const at = (place) => {
            range.setStart(node, place); range.setEnd(node, place + 1);
            return (range.getBoundingClientRect().x - box.getBoundingClientRect().x) / box.offsetWidth;
        };
        document.title = [at(0), box.scrollWidth <= box.offsetWidth].join();
    </script></body>"""
    source = Path("out/ranking.html").read_text("utf-8")
    source = re.sub(r"<meta http-equiv[^>]*>", "", source).replace("</body>", script)
    Path("out/measured.html").write_text(source, encoding="utf-8")
    found = Page(chromium("--dump-dom", Path("out/measured.html").resolve().as_uri()))
    first, fits = found.all("title")[0][1].split(",")
    assert (float(first) > 0.5) == (language in LEFTWARD) and fits == "true"
