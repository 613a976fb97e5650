"""tools/extract.py: the files that --images names."""

import re
from pathlib import Path

import pytest

from tools.extract import find_images

NAMES = ["crops/a/2.png", "crops/a/deep/1.JPG", "crops/b.webp", "crops/c.bmp", "crops/z.jpeg"]


@pytest.fixture(autouse=True)
def crops(tmp_path, monkeypatch):
    """Image files in and below the folder crops of the current folder, and others."""
    monkeypatch.chdir(tmp_path)
    for name in [*NAMES, "crops/Thumbs.db", "crops/a/list.txt"]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("crops/never.jpg")


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        (["crops"], NAMES),
        (["./crops/"], NAMES),
        (["crops/c.bmp"], NAMES[3:4]),
        (["crops/*.[bjw]*"], NAMES[2:]),
        (["crops/**/[12]*"], NAMES[:2]),
        (["crops/z.jpeg", "crops", "crops/*.bmp"], [NAMES[4], *NAMES[:4]]),
    ],
)
def test_folders_patterns_and_files(sources, found):
    assert find_images(sources) == found


def test_a_list_holds_paths_as_on_the_command_line(tmp_path):
    absolute = str(tmp_path / NAMES[0])
    lists = Path("lists")
    lists.mkdir()
    (lists / "some.TXT").write_text(
        f"crops/z.jpeg\n\n  crops/gone.jpg \r\n{absolute}\ncrops/z.jpeg", "utf-8-sig"
    )
    assert find_images(["lists/some.TXT"]) == ["crops/z.jpeg", "crops/gone.jpg", absolute]


def test_folders_that_are_links(tmp_path):
    Path("links").mkdir()
    Path("links", "to").symlink_to(tmp_path / "crops" / "a")
    assert find_images(["links"]) == ["links/to/2.png", "links/to/deep/1.JPG"]


def test_a_name_that_looks_like_a_pattern():
    Path("a[1].png").touch()
    assert find_images(["a[1].png"]) == ["a[1].png"]


@pytest.mark.parametrize("source", ["gone", "gone.jpg", "empty", "crops/*.gif", "crops/a*", "blank.txt"])
def test_sources_without_images(source):
    Path("empty").mkdir()
    Path("blank.txt").write_text("\n \n")
    told = f"--images {source}: no image there; allowed: a folder of .jpg .jpeg .png .bmp .webp, a .txt file"
    with pytest.raises(FileNotFoundError, match=re.escape(told)):
        find_images(["crops", source])


def test_a_list_that_is_no_text():
    Path("list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"list\.txt: cannot be read as a list of paths in UTF-8"):
        find_images(["list.txt"])
