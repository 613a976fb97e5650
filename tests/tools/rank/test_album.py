"""Images that lie elsewhere now, are missing, or are none."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from tools.ranking.report import Album


@pytest.mark.parametrize("root", ["", "old/place/", "/old/place/", "../place/"])
def test_images_are_found_below_root(small, run, root):
    small.task(root).save("features.npz")
    Path("new").mkdir()
    for name in ("query", "gallery"):
        shutil.move(name, "new")
    assert len(run("--images", "new").pictures()) == 13


def test_the_longest_end_of_a_path_is_taken(small, tmp_path):
    small.save_image(tmp_path / "a.png", (1, 1, 1))
    small.save_image(tmp_path / "query" / "a.png", (2, 2, 2))
    album = Album(tmp_path)
    assert album.read("/old/query/a.png").getpixel((0, 0)) == (2, 2, 2)
    assert album.read("/old/gallery/a.png").getpixel((0, 0)) == (1, 1, 1)
    assert album.read("b.png") is None
    assert album.unreadable == {"b.png": "no such image file"}


@pytest.mark.parametrize(("info", "size"), [({}, (20, 8)), ({"orientation": "exif"}, (8, 20))])
def test_images_are_shown_as_the_model_saw_them(small, run, info, size):
    small.task(**info).save("features.npz")
    exif = Image.Exif()
    exif[274] = 8
    Image.new("RGB", (20, 8)).save(small.queries[0], exif=exif)
    assert run("--queries", "0").pictures()[0].size == size


def test_a_missing_and_a_broken_image_leave_grey_places(small, run, capsys):
    Path(small.gallery[0]).unlink()
    Path(small.queries[0]).write_text("x")
    page = run("--queries", "0")
    (query, query_reason), (_, reason) = page.all("span", "missing")
    assert query["aria-label"].startswith(
        "Query: id 1, cam 0, 1_c0.jpg (no image: cannot be read as an image:"
    )
    assert query_reason.startswith("cannot be read as an image: cannot identify image file; allowed: JPEG,")
    assert reason == "no such image file"
    assert len(page.pictures()) == 2
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == f"2 of 4 images could not be read, e.g. {small.queries[0]}: {query_reason}"


def test_when_all_are_missing_images_root_is_explained(run, capsys):
    shutil.rmtree("query")
    shutil.rmtree("gallery")
    assert not run().pictures()
    told = capsys.readouterr().out
    assert "7 of 7 images could not be read, e.g. " in told
    assert told.endswith("None was found: --images ROOT names the folder in which the images lie now\n")
    assert Path("out/ranking.png").stat().st_size > 10_000
