"""utils/untrusted/archives.py: what an archive of others can write, and where."""

import io
import os
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from utils.untrusted.archives import unpack

CONTENT = {"set/a/1.jpg": b"one", "set/b/2.jpg": b"two" * 1000, "set/empty.txt": b""}


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def make(kind, path, members=CONTENT):
    return zipped(path, members) if kind == "zip" else tarred(path, members, kind)


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_files_and_folders_are_unpacked(kind, tmp_path):
    archive = make(kind, tmp_path / "a")
    assert unpack(archive, tmp_path / "out") == 3
    assert files_in(tmp_path / "out") == CONTENT


def test_names_of_windows_and_folders_of_their_own(tmp_path):
    archive = zipped(tmp_path / "a", {"set\\a\\1.jpg": b"1", "set/": b"", "./set/2.jpg": b"2"})
    unpack(archive, tmp_path / "out")
    assert files_in(tmp_path / "out") == {"set/a/1.jpg": b"1", "set/2.jpg": b"2"}


OUTSIDE = ("../out.txt", "a/../../out.txt", "/tmp/out.txt", "..\\out.txt", "\\out.txt", "C:\\out.txt", "a/..")
OUTSIDE += ("a/C:out.txt", "a\\C:\\out.txt")


@pytest.mark.parametrize("kind", ["zip", "w"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_outside_are_refused(kind, name, tmp_path):
    archive = make(kind, tmp_path / "a", {"good.txt": b"x", name: b"x"})
    before = everything(tmp_path)
    with pytest.raises(ValueError, match="outside") as error:
        unpack(archive, tmp_path / "out")
    assert name.strip("/\\").split("/")[-1].split("\\")[-1] in str(error.value)
    assert everything(tmp_path) == sorted([*before, "out", "out/good.txt"])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_a_tar_are_refused(kind, tmp_path):
    with tarfile.open(tmp_path / "a", "w") as archive:
        info = tarfile.TarInfo("set/link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ValueError, match="set/link"):
        unpack(tmp_path / "a", tmp_path / "out")
    assert not everything(tmp_path / "out")


def test_a_link_of_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("set/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match="set/link"):
        unpack(tmp_path / "a", tmp_path / "out")
    assert not everything(tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "w:gz"])
def test_what_grows_beyond_measure_is_refused(kind, tmp_path):
    archive = make(kind, tmp_path / "a", {"zeros": bytes(80 << 20)})
    with pytest.raises(ValueError, match=f"'zeros'.*{80 << 20:,}"):
        unpack(archive, tmp_path / "out")
    assert not everything(tmp_path / "out")


def test_a_huge_claim_is_refused_before_anything_is_written(tmp_path):
    with tarfile.open(tmp_path / "a", "w") as archive:
        info = tarfile.TarInfo("huge")
        info.size = 1 << 50
        archive.fileobj.write(info.tobuf())
    with pytest.raises(ValueError, match=f"'huge'.*{1 << 50:,}"):
        unpack(tmp_path / "a", tmp_path / "out")
    assert not everything(tmp_path / "out")


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a", {"a": b"x" * 2000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"2,000.*1,000"):
        unpack(archive, tmp_path / "out")
    assert not everything(tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_damage_is_a_value_error(kind, tmp_path):
    noise = os.urandom(30_000)
    whole = make(kind, tmp_path / "a", {"noise": noise}).read_bytes()
    for name, damaged in {
        "cut": whole[: len(whole) // 2],
        "changed": whole[:5000] + bytes(50) + whole[5050:],
    }.items():
        if (kind, name) == ("w", "changed"):
            continue  # a plain tar has no checksums of contents
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged|lacks|neither"):
            unpack(tmp_path / name, tmp_path / f"out {name}")


@pytest.mark.parametrize("place", ["header", "rest"])
def test_a_tar_that_breaks_off_between_entries_is_damaged(place, tmp_path):
    """Tarfile takes both for the end of the archive."""
    data = tarred(tmp_path / "a", {"1": b"1", "2": b"2"}).read_bytes()
    data = data[:1024] if place == "rest" else data[:1024] + b"?" * 512 + data[1536:]
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"<html>", b"Rar!\x1a\x07\x00" + bytes(600)])
def test_what_is_no_archive_is_refused(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="neither"):
        unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "w"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_never_replaces_another(kind, tmp_path):
    archive = make(kind, tmp_path / "a", {"set/1.jpg": b"first", "set/./1.jpg": b"second"})
    with pytest.raises(ValueError, match="twice"):
        unpack(archive, tmp_path / "out")
    assert files_in(tmp_path / "out") == {"set/1.jpg": b"first"}


def test_an_encrypted_entry_is_refused(tmp_path):
    path = zipped(tmp_path / "a", {"secret": b"x"})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the local header's flag, and that of the table of contents
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="secret"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_claims_gigabytes_is_refused_unread(kind, tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 3 << 30
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(tarfile.RECORDSIZE))
    with pytest.raises(ValueError, match="3,221,225,472 bytes for names"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    long = tarred(tmp_path / "long.tar", {"set/" + "n" * 150 + ".jpg": b"x"})
    assert unpack(long, tmp_path / "other") == 1
