import os
import socket

import pytest

from utils.untrusted.plain import open_plain, read_plain, read_plain_text


def test_a_plain_file_and_a_link_to_one_are_read(tmp_path):
    file = tmp_path / "list.txt"
    file.write_bytes(b"\xef\xbb\xbf0001.jpg 1\n")
    link = tmp_path / "link.txt"
    link.symlink_to(file)
    assert read_plain_text(file) == read_plain_text(link) == "0001.jpg 1\n"
    assert read_plain(link, 14) == file.read_bytes()


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "link to a device"])
def test_other_kinds_of_files_are_refused_by_name_at_once(tmp_path, monkeypatch, kind):
    path = tmp_path / "0001.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        socket.socket(socket.AF_UNIX).bind(path.name)
    elif kind == "device":
        path = "/dev/zero"
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=f"{path} is a {kind.split()[-1]}; allowed: a plain file"):
        open_plain(path)


def test_a_sparse_file_is_refused_by_its_size(tmp_path):
    path = tmp_path / "0001.jpg"
    with open(path, "wb") as file:
        file.truncate(6 * 2**30)
    with pytest.raises(ValueError, match=r"0001\.jpg has 6,442,450,944 bytes; allowed: at most 1,000"):
        open_plain(path, limit=1000)


def test_absent_files_and_impossible_names(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jpg: no such file"):
        open_plain(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match=r"a\\x00b"):
        open_plain("a\0b")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="the file whose reading fails is Linux's")
def test_errors_of_reading_name_the_file(tmp_path):
    path = tmp_path / "list.txt"
    path.symlink_to("/proc/self/mem")  # nothing is at its start
    for read in (
        read_plain_text,
        lambda path: open_plain(path).read(),
        lambda path: open_plain(path).read(9),
    ):
        with pytest.raises(OSError, match=r"list\.txt"):
            read(path)


def test_text_that_is_not_utf_8_names_the_file(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"list.txt: .*UTF-8"):
        read_plain_text(path)
