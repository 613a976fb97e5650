"""Unpacks zip and tar archives of unknown origin: only files and folders, and none outside of the target."""

import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from utils.text import printable, quoted, shortened
from utils.untrusted.plain import MEBIBYTE

# Images hardly become smaller in an archive, lists and tables up to twenty times.
_MAX_RATIO, _SMALL = 100, 64 * MEBIBYTE
_MOST = 2_000_000  # files and folders
_BLOCK = MEBIBYTE
_EXTENDED = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_DRIVE = re.compile(r"[A-Za-z]:")
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


class _Member(NamedTuple):
    """An entry: its name as written, whether it is a folder, the size it claims, and what opens it."""

    name: str
    is_folder: bool
    size: int
    content: IO[bytes] | None


def unpack(path: str | os.PathLike[str], folder: Path) -> int:
    """Unpack an archive into a new folder; returns the number of its files.

    Raises ValueError that names the archive's entry where one leads out of the folder, is a link, a device or
    encrypted, occurs twice, or claims more bytes than the file can hold; for a damaged archive and what is
    none; OSError where the claimed size does not fit on the disk and where a file cannot be written. What was
    written until then stays in the folder.
    """
    folder.mkdir()
    most = max(_SMALL, _MAX_RATIO * os.stat(path).st_size)
    free = shutil.disk_usage(folder).free
    files = claimed = 0
    try:
        for number, member in enumerate(_members(path), start=1):
            target = folder / _place(member.name)
            claimed += member.size
            if claimed > most or number > _MOST:
                raise ValueError(
                    f"its entries up to {quoted(member.name)} are {number:,} and claim {claimed:,} bytes; "
                    f"allowed: {_MOST:,} and {most:,}"
                )
            if claimed > free:
                raise OSError(f"it claims {claimed:,} bytes, but {folder.parent} has room for {free:,}")
            if member.is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(member, target)
            files += 1
    except (*_DAMAGED, RuntimeError) as error:  # RuntimeError: an encrypted zip
        raise ValueError(f"the archive is damaged: {shortened(error) or type(error).__name__}") from error
    return files


def _members(path: str | os.PathLike[str]) -> Iterator[_Member]:
    if zipfile.is_zipfile(path):
        yield from _of_zip(path)
    elif _is_tar(path):
        yield from _of_tar(path)
    else:
        raise ValueError("it is neither a zip nor a tar archive")


def _of_zip(path: str | os.PathLike[str]) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            _require_plain(info.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
            if info.is_dir():
                yield _Member(info.filename, True, 0, None)
                continue
            with archive.open(info) as content:
                yield _Member(info.filename, False, info.file_size, content)


class _Header(tarfile.TarInfo):
    """A header of an entry, behind which tarfile reads long names whole, whatever size they claim."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and self.size > _BLOCK:
            raise ValueError(f"a header claims {self.size:,} bytes for names; allowed: {_BLOCK:,}")
        return super()._proc_member(archive)  # pyright: ignore[reportAttributeAccessIssue]


def _is_tar(path: str | os.PathLike[str]) -> bool:
    try:
        with tarfile.open(path, tarinfo=_Header):
            return True
    except tarfile.TarError:
        return False


def _of_tar(path: str | os.PathLike[str]) -> Iterator[_Member]:
    with tarfile.open(path, tarinfo=_Header) as archive, _damage_named():
        for info in archive:
            _require_plain(info.name, info.isdir() or (info.isreg() and not info.issparse()))
            archive.members = []  # else tarfile keeps a record of every entry
            yield _Member(info.name, info.isdir(), info.size, archive.extractfile(info))
        _require_end(archive)


def _require_end(archive: tarfile.TarFile) -> None:
    """Read what follows the last entry: tarfile takes a damaged header and a missing rest for the end."""
    file = archive.fileobj
    if file is None:  # of an archive that is closed
        raise ValueError("the archive is damaged: it has no end")
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError(f"the archive is damaged: it breaks off after {archive.offset:,} bytes")
    left = _SMALL
    while left > 0 and (block := file.read(_BLOCK)):  # to the checksum of gzip
        left -= len(block)


@contextmanager
def _damage_named() -> Iterator[None]:
    """Tell damage of a compressed tar, an OSError without a number, from errors of the disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise ValueError(f"the archive is damaged: {printable(error)}") from error
        raise


def _require_plain(name: str, is_plain: bool) -> None:
    if not is_plain:
        raise ValueError(f"its entry {quoted(name)} is a link or a device; allowed: files and folders")


def _place(name: str) -> Path:
    """The relative path that an entry's name means; archives made on Windows have backslashes."""
    parts = name.replace("\\", "/").split("/")
    # Behind a folder, too: Windows takes a drive within a path for a new beginning.
    if not parts[0] or ".." in parts or any(map(_DRIVE.match, parts)) or "\0" in name:
        raise ValueError(f"its entry {quoted(name)} leads outside; allowed: names below the archive")
    return Path(*parts)


def _write(member: _Member, target: Path) -> None:
    """Copy the bytes, of which there are never more than the entry claims."""
    left = member.size
    content = member.content
    try:
        with open(target, "xb") as file, _damage_named():
            while content is not None and left and (block := content.read(min(_BLOCK, left))):
                file.write(block)
                left -= len(block)
    except FileExistsError as error:
        raise ValueError(f"its entry {quoted(member.name)} occurs twice") from error
    if left:
        raise ValueError(f"its entry {quoted(member.name)} lacks {left:,} of its {member.size:,} bytes")
