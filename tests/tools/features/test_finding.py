"""The files that --images names."""

import os
import re
from pathlib import Path

import pytest

from tools.features.finding import find_images

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


@pytest.mark.parametrize("source", ["crops", "crops/**/*.[Jjpw]*", "**/**/**/**/*.[Jjpw]*"])
def test_links_in_circles_are_followed_once(tmp_path, source, caplog):
    for number in range(20):
        Path(f"crops/circle{number}").symlink_to(".")
        Path(f"crops/a/up{number}").symlink_to("..")
    assert find_images([source]) == [name for name in NAMES if not name.endswith("bmp") or source == "crops"]
    assert ("40 (a link to what is read already), such as crops/a/up0" in caplog.text) == (source == "crops")


def test_a_file_of_several_sources_is_taken_once(tmp_path, caplog):
    for path, target in (("other", "crops/a"), ("link.png", "crops/a/2.png")):
        Path(path).symlink_to(target)
    assert find_images(["crops", str(tmp_path / "crops"), "./crops/c.bmp", "other", "link.png"]) == NAMES
    assert caplog.messages == [f"--images: not read: 9 (named twice), such as {tmp_path}/crops/a/2.png"]


def test_what_is_left_out_is_counted_once_for_all_sources(caplog):
    for name in [
        "crops/.thumbs/1.jpg",
        "crops/._b.webp",
        "crops/@eaDir/1.jpg",
        "other/1.HEIC",
        "other/2.JFIF",
    ]:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert find_images(["crops", "other"]) == [*NAMES, "other/2.JFIF"]
    (warning,) = caplog.messages
    for told in (
        "3 (hidden",
        "such as crops/._b.webp",
        "1 (image-like with a suffix",
        "such as other/1.HEIC",
    ):
        assert told in warning
    assert find_images(["crops/.thumbs"]) == ["crops/.thumbs/1.jpg"]  # asked for by name


def test_a_name_that_looks_like_a_pattern():
    Path("a[1].png").touch()
    assert find_images(["a[1].png"]) == ["a[1].png"]


@pytest.mark.parametrize("source", ["gone", "gone.jpg", "empty", "crops/*.gif", "crops/a*", "blank.txt"])
def test_sources_without_images(source):
    Path("empty").mkdir()
    Path("blank.txt").write_text("\n \n")
    told = rf"--images {re.escape(source)}: no image there; allowed: a folder of \.jpg .*\.tiff .*, a \.txt"
    with pytest.raises(FileNotFoundError, match=told):
        find_images(["crops", source])


def test_a_list_that_is_no_text():
    Path("list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"list\.txt: cannot be read as text in UTF-8: .*UTF-16"):
        find_images(["list.txt"])


def test_what_is_no_plain_file_is_named_as_what_it_is():
    """An image is opened later, where others may take its place."""
    for name in ("pipe.txt", "pipe.jpg"):
        os.mkfifo(name)
    with pytest.raises(ValueError, match=r"pipe\.txt is a pipe; allowed: a plain file"):
        find_images(["pipe.txt"])
    assert find_images(["pipe.jpg"]) == ["pipe.jpg"]
