"""utils/download: what is kept of a download, and what is not, against a server on 127.0.0.1."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from tests.file_server import serving_files
from tests.untrusted.test_archives import everything, zipped
from tests.utils.test_files import full_disk
from utils.download import Source, download_source, fetch_by_gdown, fetching, keeping, pull_by_dvc
from utils.package import MissingExtra

NOISE = os.urandom(1_500_000)
MEMBERS = {"toy-v1/query/1.jpg": NOISE, "toy-v1/train/2.jpg": b"two"}
FILES = ["toy", "toy/query", "toy/query/1.jpg", "toy/train", "toy/train/2.jpg"]


@pytest.fixture
def server():
    pytest.importorskip("gdown")
    with serving_files() as server:
        yield server


@pytest.fixture
def archive(tmp_path_factory):
    return zipped(tmp_path_factory.mktemp("made") / "toy.zip", MEMBERS).read_bytes()


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "_RETRIES", 0)
    return tmp_path / "data"


def toy(url, **facts):
    return Source("toy", url=url, marker="query", page="https://toy.example", **facts)


def refused(root, source, *told, kind=(ValueError, OSError), **options):
    """The error's line, which names the source, what is told, and what to do by hand."""
    with pytest.raises(kind) as error:
        download_source("toy", source, root, **options)
    line = str(error.value)
    assert "\n" not in line and line.startswith("toy ")
    for words in (*told, "by hand", source.page, str(root / source.target)):
        assert words in line
    return line


def md5(content):
    return hashlib.md5(content).hexdigest()


def test_an_archive_becomes_its_folder_and_is_not_fetched_again(server, archive, root, caplog):
    source = toy(server.put("toy.zip", archive), md5=md5(archive))
    assert download_source("toy", source, root) == root / "toy"
    assert everything(root) == FILES and (root / "toy/query/1.jpg").read_bytes() == NOISE
    assert download_source("toy", source, root) == root / "toy" and len(server.seen) == 1
    assert "checksum" not in caplog.text


def test_without_a_checksum_the_log_says_so(server, archive, root, caplog):
    download_source("toy", toy(server.put("toy.zip", archive)), root)
    assert "no checksum" in caplog.text and hashlib.sha256(archive).hexdigest() in caplog.text


def test_other_folders_count_and_an_empty_one_does_not(server, archive, root):
    source = toy(server.put("toy.zip", archive), also=("Toy2",))
    (root / "Toy2").mkdir(parents=True)
    (root / "toy").mkdir()
    assert download_source("toy", source, root) == root / "toy"
    (root / "toy").rename(root / "Toy2/toy")
    assert download_source("toy", source, root) == root / "Toy2" and len(server.seen) == 1


@pytest.mark.parametrize("prefix", ["", "toy/", "a/b/c/"])
def test_the_folder_with_the_marker_is_found(prefix, server, root, tmp_path):
    members = {f"{prefix}query/1.jpg": b"1", f"{prefix}train/2.jpg": b"2", "__MACOSX/x": b""}
    url = server.put("toy.zip", zipped(tmp_path / "toy.zip", members).read_bytes())
    download_source("toy", toy(url), root)
    assert (root / "toy/query/1.jpg").read_bytes() == b"1" and [p.name for p in root.iterdir()] == ["toy"]


def test_an_archive_without_the_marker_is_not_kept(server, root, tmp_path):
    url = server.put("toy.zip", zipped(tmp_path / "toy.zip", {"other/1.jpg": b"1"}).read_bytes())
    refused(root, toy(url), "query", "'other'", kind=ValueError)
    assert not root.exists()


def test_a_download_that_breaks_off_goes_on_where_it_was(server, archive, root):
    source = toy(server.put("toy.zip", archive), md5=md5(archive))
    server.cuts = [1_000_000]
    refused(root, source, "incomplete", kind=OSError)
    (part,) = [path for path in root.rglob("*") if path.is_file()]
    came = part.stat().st_size
    assert came > 500_000 and part.read_bytes() == archive[:came]
    assert download_source("toy", source, root) == root / "toy"
    assert server.seen[-1] == ("/toy.zip", f"bytes={came}-") and everything(root) == FILES


def test_a_server_that_gives_no_rest_is_asked_for_all(server, archive, root, caplog):
    server.ranges = False
    source = toy(server.put("toy.zip", archive), md5=md5(archive))
    server.cuts = [1_000_000]
    refused(root, source, kind=OSError)
    download_source("toy", source, root)
    assert everything(root) == FILES and "beginning" in caplog.text


def test_a_silent_server_is_not_waited_for(server, root, monkeypatch):
    monkeypatch.setattr(fetching, "_WAIT", 0.1)
    server.silent = True
    refused(root, toy(f"{server.address}/toy.zip"), "timed out", kind=OSError)
    assert not root.exists()


def test_no_network_keeps_the_part(server, archive, root):
    source = toy(server.put("toy.zip", archive), md5=md5(archive))
    server.cuts = [1_000_000]
    refused(root, source, kind=OSError)
    (part,) = (path for path in root.rglob("*") if path.is_file())
    came = part.stat().st_size
    refused(root, toy("http://127.0.0.1:9/toy.zip"), "Connection", kind=OSError)
    assert part.stat().st_size == came
    download_source("toy", source, root)
    assert server.seen[-1][1] == f"bytes={came}-"


def test_a_short_break_ends_no_download(server, archive, root, monkeypatch):
    monkeypatch.setattr(fetching, "_RETRIES", 1)
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    server.cuts = [1_000_000]
    download_source("toy", toy(server.put("toy.zip", archive), md5=md5(archive)), root)
    assert everything(root) == FILES and server.seen[1][1].startswith("bytes=")


def test_a_part_of_another_file_is_not_joined_to_this_one(server, archive, root):
    """Nothing but the checksum tells, where a server has replaced a file."""
    source = toy(server.put("toy.zip", bytes(len(archive))), md5=md5(archive))
    server.cuts = [1_000_000]
    refused(root, source, kind=OSError)
    server.put("toy.zip", archive)
    refused(root, source, "md5", md5(archive), kind=ValueError)
    assert not everything(root)
    download_source("toy", source, root)
    assert everything(root) == FILES


def test_a_wrong_checksum(server, archive, root):
    refused(root, toy(server.put("toy.zip", archive), md5="0" * 32), "0" * 32, md5(archive), kind=ValueError)
    assert not root.exists()


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><p>Quota exceeded", b" \n<html>", b'<?xml version="1.0"?>']
)
def test_a_page_that_people_read_is_no_archive(page, server, root):
    refused(root, toy(server.put("toy.zip", page)), "web page", "quota", kind=OSError)
    assert not root.exists()


@pytest.mark.parametrize("content", [b"", b"Rar!\x1a\x07\x00" + bytes(600)])
def test_what_is_no_archive(content, server, root):
    refused(root, toy(server.put("toy.zip", content)))
    assert not root.exists()


@pytest.mark.parametrize("name", ["../../../out.txt", "/tmp/bt_out.txt"])
def test_an_archive_that_leads_outside(name, server, root, tmp_path):
    members = {"toy/query/1.jpg": b"1", name: b"x"}
    url = server.put("toy.zip", zipped(tmp_path / "toy.zip", members).read_bytes())
    refused(root, toy(url), "outside", kind=ValueError)
    assert everything(tmp_path) == ["toy.zip"]


def test_no_server_and_no_such_file(server, root):
    refused(root, toy(f"{server.address}/gone.zip"), "404", kind=OSError)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/toy.zip"
    refused(root, toy(address), "Connection", kind=OSError)
    assert not root.exists()


def test_the_words_of_google_drive_are_one_line(root, monkeypatch):
    exceptions = pytest.importorskip("gdown.exceptions")

    def download(url, output, **options):
        raise exceptions.FileURLRetrievalError("Failed:\n\n\tToo many users\n\n\thave viewed it")

    monkeypatch.setattr("gdown.download", download)
    source = Source("toy", drive_id="ID", resource_key="KEY")
    line = refused(root, source, "Too many users have viewed it", kind=OSError)
    assert "https://drive.google.com/file/d/ID/view?resourcekey=KEY" in line


def test_a_disk_without_room_for_the_known_size(server, archive, root, monkeypatch):
    source = toy(server.put("toy.zip", archive), size=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1999))
    refused(root, source, "1,999", "2,000", kind=OSError)
    assert not root.exists() and not server.seen


def test_a_disk_that_is_full_while_the_file_comes(server, archive, root):
    source = toy(server.put("toy.zip", archive))
    with full_disk(100_000):
        refused(root, source, "full", kind=OSError)
    assert not root.exists()


def test_a_disk_that_is_full_while_it_is_unpacked(server, root, tmp_path):
    members = {"toy/query/1.jpg": bytes(1_000_000)}
    (root / "other").mkdir(parents=True)
    url = server.put("toy.zip", zipped(tmp_path / "toy.zip", members).read_bytes())
    with full_disk(500_000):
        refused(root, toy(url), "full", kind=OSError)
    assert everything(root) == ["other"]


def test_a_full_disk_by_the_systems_own_error(root):
    """An ENOSPC of a fetcher, wherever it stands in the chain of causes."""

    def fetch(url, path):
        path.write_bytes(b"half")
        (path.parent / "archive1.part").write_bytes(b"half")
        try:
            with open("/dev/full", "w") as file:
                file.write("x")
        except OSError as error:
            assert error.errno == errno.ENOSPC
            raise ConnectionError("cannot go on") from error

    refused(root, toy("https://toy.example/toy.zip"), "full", kind=OSError, fetch=fetch)
    assert not root.exists()


@pytest.mark.parametrize("error", [RuntimeError("of\nothers"), KeyError("x"), ConnectionError("cut")])
def test_errors_of_any_fetcher_are_one_line_and_leave_nothing(error, root):
    def fetch(url, path):
        path.write_bytes(b"half")
        raise error

    refused(root, toy("https://toy.example/toy.zip"), kind=OSError, fetch=fetch)
    assert not root.exists()


def test_a_file_is_kept_if_the_check_passes(root):
    source = Source("a/b.json", url="https://toy.example/b", is_file=True)
    seen = []

    def check(path):
        seen.append(path.name)
        if len(seen) == 1:
            raise ValueError("no weights")

    def fetch(url, path):
        path.write_bytes(b"{}")
        path.chmod(0o600)

    refused(root, source, "no weights", "https://toy.example/b", kind=ValueError, fetch=fetch, check=check)
    assert not root.exists()
    assert download_source("toy", source, root, fetch, check) == root / "a/b.json"
    assert (root / "a/b.json").stat().st_mode & 0o777 == 0o644
    assert seen == ["b.json", "b.json"] and everything(root) == ["a", "a/b.json"]


def test_a_set_by_request_is_named_with_its_page(root):
    source = Source("toy", page="https://toy.example", terms="is given on request")
    refused(root, source, "on request", kind=ValueError)
    assert not root.exists()


def test_gdown_is_named_where_it_is_missing(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"gdown.*clipreid\[download\]"):
        download_source("toy", toy("https://toy.example/toy.zip"), root)
    assert not root.exists()


def test_what_a_kill_has_left_is_cleared(server, archive, root):
    source = toy(server.put("toy.zip", archive), md5=md5(archive))
    work = root / ".download-toy"
    (work / "unpacked/old").mkdir(parents=True)
    (work / "archive").write_bytes(b"old")
    (root / ".download-toy.lock").touch()
    for number in (1, 2):  # gdown takes no part where there are two
        (work / f"archive{number:08d}.part").write_bytes(archive[: 1000 * number])
        os.utime(work / f"archive{number:08d}.part", (number, number))
    download_source("toy", source, root)
    assert server.seen[-1][1] == "bytes=2000-" and everything(root) == FILES


def test_what_a_link_leads_to_is_not_cleared(server, archive, root):
    (root / "mine").mkdir(parents=True)
    (root / "mine/precious").touch()
    (root / ".download-toy").symlink_to(root / "mine")
    download_source("toy", toy(server.put("toy.zip", archive)), root)
    assert everything(root) == ["mine", "mine/precious", *FILES]


def test_of_two_at_once_one_fetches_and_the_other_waits(archive, root, monkeypatch, caplog):
    monkeypatch.setattr(keeping, "_POLL", 0.05)
    caplog.set_level("INFO")
    started, go_on, asked = threading.Event(), threading.Event(), []

    def fetch(url, path):
        asked.append(url)
        started.set()
        assert go_on.wait(10)
        path.write_bytes(archive)

    source = toy("https://toy.example/toy.zip")
    first = threading.Thread(target=download_source, args=("toy", source, root, fetch))
    first.start()
    assert started.wait(10)
    second = threading.Thread(target=download_source, args=("toy", source, root, fetch))
    second.start()
    for _ in range(200):
        if "Waiting" in caplog.text:
            break
        threading.Event().wait(0.05)
    go_on.set()
    first.join()
    second.join()
    assert len(asked) == 1 and "Waiting" in caplog.text and everything(root) == FILES


DVC = """\
#!{python}
import pathlib, sys
pathlib.Path("asked").write_text(" ".join(sys.argv[1:]))
pathlib.Path("toy").mkdir()
"""


def install(folder, text, monkeypatch):
    folder.mkdir(exist_ok=True)
    (folder / "dvc").write_text(text)
    (folder / "dvc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_dvc_is_asked_for_the_file_in_the_folder(tmp_path, monkeypatch):
    install(tmp_path / "bin", DVC.format(python=sys.executable), monkeypatch)
    (tmp_path / "toy.dvc").touch()
    pull_by_dvc(["set.dvc", "toy.dvc"], tmp_path)
    assert (tmp_path / "asked").read_text() == "pull toy.dvc" and (tmp_path / "toy").is_dir()
    (tmp_path / "toy").rmdir()
    pull_by_dvc(["set.dvc", "toy.dvc"], tmp_path, "mine")
    assert (tmp_path / "asked").read_text() == "pull toy.dvc --remote mine"


def test_what_dvc_lacks_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"set\.dvc or .*toy\.dvc"):
        pull_by_dvc(["set.dvc", "toy.dvc"], tmp_path)
    (tmp_path / "toy.dvc").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match=r"dvc.*clipreid\[dvc\]"):
        pull_by_dvc(["set.dvc", "toy.dvc"], tmp_path)
    install(tmp_path / "bin", "#!/bin/sh\necho first\necho 'ERROR: no remote' >&2\nexit 255\n", monkeypatch)
    with pytest.raises(OSError, match=r"toy\.dvc: ERROR: no remote"):
        pull_by_dvc(["set.dvc", "toy.dvc"], tmp_path)


def test_importing_needs_no_gdown():
    code = "import sys; sys.modules['gdown'] = None; import utils.download"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gdown_alone_keeps_its_part_for_the_next_time(server, archive, tmp_path):
    """What `download_source` builds on."""
    url, path = server.put("toy.zip", archive), tmp_path / "archive"
    server.cuts = [1_000_000]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="incomplete"):
        patch.setattr(fetching, "_RETRIES", 0)
        fetch_by_gdown(url, path)
    assert not path.exists()
    fetch_by_gdown(url, path)
    assert path.read_bytes() == archive and everything(tmp_path) == ["archive"]
