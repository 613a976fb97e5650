"""Opening files of unknown origin: a plain file of a stated size at most, or an error that names it.

A pipe or a socket blocks its reader, a device such as /dev/zero never ends, and a sparse file of a few bytes
on the disk claims any size.
"""

import codecs
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, FileIO, TextIOWrapper
from typing import Any, BinaryIO, TextIO

from utils.systems import BINARY
from utils.text import printable

MEBIBYTE = 2**20
MAX_TEXT = 256 * MEBIBYTE  # lists, tables, settings: all are read into memory
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_LINE_END = re.compile("\r\n|\r|\n")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class _PlainFile(FileIO):
    """Errors of reading name the file, too."""

    def readinto(self, buffer: Any) -> int:
        """As a file does."""
        with self._named():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        """As a file does."""
        with self._named():
            return super().readall()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = self.name
            raise


def open_plain(path: str | os.PathLike[str], limit: int | None = None) -> BinaryIO:
    """Open a plain file, or a link to one, of at most `limit` bytes for reading.

    Raises FileNotFoundError, another OSError, or ValueError for a file of another kind, a larger one and a
    path that no file can have; each is one line with the path.
    """
    descriptor, _ = _open(path, limit)
    return BufferedReader(_PlainFile(path, opener=lambda *_: descriptor))


def read_plain(path: str | os.PathLike[str], limit: int) -> bytes:
    """The bytes of such a file, quickly: images are small and many. Raises as `open_plain`."""
    descriptor, size = _open(path, limit)
    try:
        data = os.read(descriptor, size)
        while len(data) < size and (more := os.read(descriptor, size - len(data))):
            data += more
        return data
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(descriptor)


def _open(path: str | os.PathLike[str], limit: int | None) -> tuple[int, int]:
    """Descriptor and size."""
    try:
        # The kind is looked at before opening, which alone can start a device, and after, when it holds.
        _require_plain(os.stat(path), path, limit)
        descriptor = os.open(path, os.O_RDONLY | _NO_WAIT | BINARY)
    except FileNotFoundError:
        raise FileNotFoundError(f"{printable(path)}: no such file") from None
    except OSError as error:
        raise OSError(f"{printable(path)} cannot be read: {error.strerror}") from error
    except ValueError as error:
        if "null" in str(error) or isinstance(error, UnicodeEncodeError):
            raise ValueError(f"{printable(path)}: no file can have this name") from None
        raise
    try:
        state = os.fstat(descriptor)
        _require_plain(state, path, limit)
        return descriptor, state.st_size
    except ValueError:
        os.close(descriptor)
        raise


@contextmanager
def open_plain_text(path: str | os.PathLike[str], limit: int = MAX_TEXT) -> Iterator[TextIO]:
    """A plain file of text in UTF-8, with or without byte order mark; line ends stay as they are.

    Raises as `open_plain` does, and ValueError for another encoding, here or in the block.
    """
    problem = f"{printable(path)}: cannot be read as text in UTF-8"
    with open_plain(path, limit) as file, TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        start = file.read(2)
        file.seek(0)
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in start:
            raise ValueError(f"{problem}: it begins as text in UTF-16 does")
        try:
            yield text
        except UnicodeDecodeError as error:
            raise ValueError(f"{problem}: {error}") from error


def read_plain_text(path: str | os.PathLike[str], limit: int = MAX_TEXT) -> str:
    """The text in a file as `open_plain_text` opens it."""
    with open_plain_text(path, limit) as text:
        return text.read()


def read_plain_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of such a file. Files that were put together may have a byte order mark in several."""
    return [line.removeprefix("\ufeff") for line in _LINE_END.split(read_plain_text(path))]


def require_plain(path: str | os.PathLike[str]) -> None:
    """Raise ValueError, which names the path, unless a plain file, a link to one or nothing is there."""
    with suppress(OSError):  # what writes there meets it too
        _require_plain(os.stat(path), path, None)


def _require_plain(state: os.stat_result, path: str | os.PathLike[str], limit: int | None) -> None:
    kind = stat.S_IFMT(state.st_mode)
    if kind != stat.S_IFREG:
        raise ValueError(f"{printable(path)} is {_KINDS.get(kind, 'no plain file')}; allowed: a plain file")
    if limit is not None and state.st_size > limit:
        raise ValueError(f"{printable(path)} has {state.st_size:,} bytes; allowed: at most {limit:,}")
