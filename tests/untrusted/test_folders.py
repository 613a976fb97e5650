import os
import socket
from pathlib import Path

import pytest

from utils.text import Tally
from utils.untrusted.folders import (
    BROKEN,
    DEEPER,
    HIDDEN,
    LINKED,
    NO_IMAGE,
    NOT_PLAIN,
    OTHER_SUFFIX,
    find_files,
    find_folders,
)

SUFFIXES = (".jpg", ".png")


@pytest.fixture(autouse=True)
def people(tmp_path, monkeypatch):
    """Three images in and below the folder people of the current folder."""
    monkeypatch.chdir(tmp_path)
    touch("people/1/a.jpg", "people/1/b.PNG", "people/2/c.jpg")


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def walk(folder="people", **options):
    """Names of what is found, and the counts and examples of what is left out."""
    left_out = Tally()
    found = find_files(folder, SUFFIXES, left_out, **options)
    return [str(path) for path in found], left_out


THREE = ["people/1/a.jpg", "people/1/b.PNG", "people/2/c.jpg"]


def test_files_of_the_suffixes_are_found_sorted():
    touch("people/notes.txt", "people/Thumbs.db", "people/2/LICENSE")
    assert walk() == (THREE, {})
    assert walk("people/1", deep=False) == (THREE[:2], {})
    found, left_out = walk("people", deep=False)
    assert not found
    assert left_out == {NO_IMAGE: (2, "people/Thumbs.db"), DEEPER: (2, "people/1")}


def test_hidden_files_and_folders_and_those_of_services_are_not_read():
    touch("people/._1.jpg", "people/.DS_Store", "people/2/.ipynb_checkpoints/c.jpg", "people/.thumbs/x/y.jpg")
    touch("people/1/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "people/__MACOSX/1/._a.jpg", "people/#recycle/d.jpg")
    assert walk() == (THREE, {HIDDEN: (6, "people/#recycle")})
    os.rename("people", ".people")
    assert len(walk(".people")[0]) == 3  # named by the user


def test_image_like_files_of_other_suffixes_are_counted():
    touch("people/2/d.heic", "people/2/e.TIF", "people/1/f.dng", "people/1/g.mp4", "people/1/h.json")
    touch("people/2/i.jpg ", "people/2/j.png.")
    assert walk() == (THREE, {OTHER_SUFFIX: (6, "people/1/f.dng")})


def test_all_files_are_counted_where_none_is_found():
    touch("crops/1", "crops/2", "crops/3.jpg.part", "crops/.hidden")
    assert walk("crops") == ([], {NO_IMAGE: (3, "crops/1")})


def test_what_is_no_plain_file_is_not_read():
    os.mkfifo("people/1/pipe.jpg")
    os.chdir("people")
    socket.socket(socket.AF_UNIX).bind("socket.png")
    os.chdir("..")
    Path("people/2/zero.jpg").symlink_to("/dev/zero")
    os.mkfifo("people/1/pipe.txt")
    assert walk() == (THREE, {NOT_PLAIN: (3, "people/1/pipe.jpg")})


def test_each_real_folder_is_entered_once_and_under_its_own_name():
    for number in range(30):
        Path(f"people/1/up{number}").symlink_to("..")
        Path(f"people/0circle{number}").symlink_to(".")
    Path("people/0same").symlink_to("2")
    assert walk() == (THREE, {LINKED: (61, "people/0circle0")})
    assert [str(path) for path in find_folders("people")] == ["people", "people/1", "people/2"]


def test_folders_that_are_elsewhere_are_entered_through_links():
    touch("else/x/d.jpg", "else/x/e.jpg")
    Path("people/8").symlink_to("../else/x")
    Path("people/9").symlink_to("../else")
    Path("else/back").symlink_to("../people")
    assert walk() == ([*THREE, "people/8/d.jpg", "people/8/e.jpg"], {LINKED: (2, "people/9/back")})


def test_each_real_file_is_read_once():
    Path("people/0.jpg").symlink_to("2/c.jpg")
    touch("else/d.jpg")
    for name in ("people/2/d.jpg", "people/2/e.jpg"):
        Path(name).symlink_to("../../else/d.jpg")
    os.link("people/1/a.jpg", "people/2/f.jpg")
    assert walk() == ([*THREE, "people/2/d.jpg", "people/2/f.jpg"], {LINKED: (2, "people/0.jpg")})


def test_links_to_nothing_count_as_files_or_as_left_out():
    Path("people/2/gone.jpg").symlink_to("nowhere.jpg")
    Path("people/2/self.jpg").symlink_to("self.jpg")
    Path("people/3").symlink_to("nowhere")
    found = [*THREE, "people/2/gone.jpg", "people/2/self.jpg"]
    assert walk() == (found, {BROKEN: (1, "people/3")})


def test_a_folder_that_cannot_be_listed_is_named(monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "2":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(OSError, match="people/2 cannot be listed: Permission denied"):
        walk()


def test_what_is_left_out_is_told_in_one_printable_line():
    touch("people/1/\x1b[2J\n.heic", "people/1/._a.jpg")
    left_out = Tally()
    assert not left_out
    find_files("people", SUFFIXES, left_out)
    assert left_out and str(left_out) == (
        f"1 ({HIDDEN}), such as people/1/._a.jpg; 1 ({OTHER_SUFFIX}), such as people/1/\\x1b[2J\\n.heic"
    )
