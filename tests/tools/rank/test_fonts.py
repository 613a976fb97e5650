"""Letters that matplotlib's own font lacks: an installed font has them, or numbers are drawn."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.text
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager, ft2font
from PIL import Image

from retrieval import LabelNames, RetrievalTask
from tools import plots
from tools.ranking.fonts import find_fonts

NAMES = LabelNames(identities={1: "машина35", 2: "王"}, cameras={0: "东门", 1: "c1"})


@pytest.fixture(autouse=True)
def only_own_fonts(monkeypatch):
    """No font but matplotlib's own; warnings of letters that are drawn as boxes are errors."""
    own = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def install(monkeypatch, tmp_path):
    """install('Toy', '东门') -> the path of an installed font of square letters."""
    installed = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: installed)

    def build(family, letters):
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for point in ((0, 800), (800, 800), (800, 0)):
            pen.lineTo(point)
        pen.closePath()
        names = [".notdef", *(f"u{ord(letter):x}" for letter in letters)]
        font = FontBuilder(1000, isTTF=True)
        font.setupGlyphOrder(names)
        font.setupCharacterMap({ord(letter): f"u{ord(letter):x}" for letter in letters})
        font.setupGlyf(dict.fromkeys(names, pen.glyph()))
        font.setupHorizontalMetrics(dict.fromkeys(names, (900, 0)))
        font.setupHorizontalHeader(ascent=800, descent=-200)
        font.setupNameTable({"familyName": family, "styleName": "Regular"})
        font.setupOS2()
        font.setupPost()
        font.save(tmp_path / f"{family}.ttf")
        installed.append(str(tmp_path / f"{family}.ttf"))

    return build


@pytest.fixture
def drawn(monkeypatch):
    """The texts of pictures, as they are drawn."""
    texts = []
    draw = matplotlib.text.Text.draw

    def note(self, renderer):
        texts.append(self.get_text().replace("\u200e", ""))
        return draw(self, renderer)

    monkeypatch.setattr(matplotlib.text.Text, "draw", note)
    return texts


def test_fonts_that_have_the_letters(install, tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    install("East", "东门")
    install("All Sans", "东门王")
    install("Last Resort", "东门王จ")
    font_manager.findSystemFonts().append(str(tmp_path / "broken.ttf"))
    found = find_fonts(["машина35", "东门", "c1"])
    assert found.families[-1] == "All Sans" and len(found.families) == 2 and not found.missing
    found = find_fonts(["东", "王จ"])
    assert found.families[-1] == "All Sans" and found.missing == {"จ"}
    assert found.describe_missing() == "No installed font has จ"
    assert (found.drawable("王", "2"), found.drawable("จ王", "2")) == ("王", "2")
    assert find_fonts(["машина35 ✓", ""]) == find_fonts([])


def test_text_from_right_to_left_needs_a_matplotlib_that_can(monkeypatch):
    monkeypatch.delattr(ft2font, "__libraqm_version__", raising=False)
    found = find_fonts(["aم", "ล", "हि"])
    assert found.missing == {"م", "ล", "ह", "ि"} and found.unshaped == {"م", "ह", "ि"}
    assert found.describe_missing() == (
        f"matplotlib {matplotlib.__version__} cannot draw مहि (3.11, for Python 3.11 or newer, can), "
        "No installed font has ล"
    )
    assert found.boxed("a مم ล") == "a □□ □"


def test_what_cannot_be_seen_needs_no_font():
    assert not find_fonts(["a\u200d\ufe0f\u2068\u200f"]).missing


@pytest.mark.parametrize("letters", ["", "东门王"])
def test_the_picture_has_names_or_numbers(small, run, install, drawn, capsys, letters):
    if letters:
        install("Toy", letters)
    small.save_image("query/王.jpg")
    images = small.task().images
    paths = [path.replace("query/1_c0", "query/王") for path in images.paths]
    task = replace(small.task(), images=replace(images, paths=paths, keys=paths), names=NAMES)
    task.save("features.npz")
    page = run("--queries", "0", "1")
    told = capsys.readouterr().out
    assert "东门" in page.source and "id 王" in page.source
    assert "id машина35" in drawn and "cam c1" in drawn
    wanted, other = ("id 王", "cam 东门", "0  王.jpg"), ("id 2", "cam 0", "0  ")
    if not letters:
        wanted, other = other, wanted
    assert set(wanted) <= set(drawn) and not set(other) & set(drawn)
    last = told.splitlines()[-1]
    assert last.endswith("ranking.png") if letters else "东王门" in last and "out/ranking.html" in last


def test_long_names_are_shortened(small, run, drawn):
    names = LabelNames(identities={1: "x" * 200}, cameras={0: "я" * 200})
    replace(small.task(), names=names).save("features.npz")
    run("--queries", "0")
    captions = [text for text in drawn if "xx" in text or "яя" in text]
    assert len(set(captions)) == 2 and max(map(len, captions)) < 20


def test_long_file_names_are_whole_below_images_of_unknown_camera(small, run, drawn):

    def height():
        with Image.open("out/ranking.png") as image:
            return image.height

    task = small.task()
    small_name, name = small.gallery[0], "gallery/car_0004_cam1_frame_17.jpg"
    paths = [name if path == small_name else path for path in task.images.paths]
    images = replace(task.images, paths=paths, keys=paths)
    trials = tuple(trial._replace(gallery_camids=trial.gallery_camids * 0 - 1) for trial in task.trials)
    run("--queries", "0")
    before = height()
    Path(small_name).rename(name)
    RetrievalTask(images, trials, task.info).save("features.npz")
    run("--queries", "0")
    assert "car_0004_cam1_frame_17.jpg" in "".join(drawn)
    assert height() > before


@pytest.mark.parametrize("letters", ["", "东门"])
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_labels_of_curves(tmp_path, monkeypatch, install, drawn, capsys, letters, suffix):
    monkeypatch.chdir(tmp_path)
    if letters:
        install("Toy", letters)
    for label in ("东门", "run"):
        Path(label).mkdir()
        Path(label, "metrics.json").write_text(json.dumps({"cmc": [0.5, 1.0], "mAP": 0.5}))
    assert plots.main(["cmc", "--out", f"out.{suffix}", "东门", "run"]) == 0
    shown = [text.partition(":")[0] for text in drawn if "Rank-1" in text]
    assert sorted(set(shown)) == (["run", "东门"] if letters else ["1", "2 run"])
    told = capsys.readouterr().out.splitlines()
    assert "东门, run" in told[-1] and (len(told) == 1 if letters else "东门" in told[0])
