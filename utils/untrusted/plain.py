"""Opening files of unknown origin: a plain file of a stated size at most, or an error that names it.

A pipe or a socket blocks its reader, a device such as /dev/zero never ends, and a sparse file of a few bytes
on the disk claims any size.
"""

import os
import stat
from typing import BinaryIO

from utils.text import printable

MEBIBYTE = 2**20
MAX_TEXT = 256 * MEBIBYTE  # lists, tables, settings: all are read into memory
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_plain(path: str | os.PathLike[str], limit: int | None = None) -> BinaryIO:
    """Open a plain file, or a link to one, of at most `limit` bytes for reading.

    Raises FileNotFoundError, another OSError, or ValueError for a file of another kind, a larger one and a
    path that no file can have; each is one line with the path.
    """
    name = printable(path)
    try:
        # The kind is looked at before opening, which alone can start a device, and after, when it holds.
        _require_plain(os.stat(path), name, limit)
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except OSError as error:
        raise OSError(f"{name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        if "null" in str(error):
            raise ValueError(f"{name}: no file can have this name") from None
        raise
    try:
        _require_plain(os.fstat(file.fileno()), name, limit)
    except ValueError:
        file.close()
        raise
    return file


def read_plain_text(path: str | os.PathLike[str], limit: int = MAX_TEXT) -> str:
    """The text in a plain file in UTF-8, with or without byte order mark. Raises as `open_plain` does."""
    with open_plain(path, limit) as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(path)}: cannot be read as text in UTF-8: {error}") from error


def _require_plain(state: os.stat_result, name: str, limit: int | None) -> None:
    kind = stat.S_IFMT(state.st_mode)
    if kind != stat.S_IFREG:
        raise ValueError(f"{name} is {_KINDS.get(kind, 'no plain file')}; allowed: a plain file")
    if limit is not None and state.st_size > limit:
        raise ValueError(f"{name} has {state.st_size:,} bytes; allowed: at most {limit:,}")
