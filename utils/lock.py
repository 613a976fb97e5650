"""A lock on a folder that the system releases when its holder ends in any way, SIGKILL included."""

import contextlib
import errno
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.systems import BINARY
from utils.text import printable
from utils.untrusted.plain import require_plain

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_FAR = 1 << 30  # on Windows a locked byte cannot be read, so it is behind the holder's name
_MOST_NAME = 300  # bytes
_held: set[int] = set()


@contextmanager
def locked(path: Path) -> Iterator[str]:
    """Hold the file `path` for this process, and none that it forks, while the context lasts.

    The file is created, names its holder, and is removed at the end; one that a killed process left is free.
    Gives '', or the reason for which the file system locks nothing. Raises BlockingIOError, which names
    process and machine, when another process holds the file; OSError when it cannot be opened, ValueError
    when it is no plain file.
    """
    descriptor, reason = _hold(path)
    try:
        yield reason
    finally:
        if descriptor in _held and not reason and _is_at(path, descriptor):
            with contextlib.suppress(OSError):  # Windows keeps open files
                path.unlink()
        _close(descriptor)


def _hold(path: Path) -> tuple[int, str]:
    """The descriptor of the file that is held, and the reason if it could not be locked."""
    while True:
        require_plain(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | BINARY, 0o666)
        except OSError as error:
            raise OSError(f"path {path} cannot be opened: {error.strerror}") from error
        _held.add(descriptor)
        try:
            reason = _lock(descriptor)
            if reason or _is_at(path, descriptor):  # else its holder has removed it in between
                return descriptor, reason
        except BlockingIOError as error:
            holder = _holder(descriptor)
            _close(descriptor)
            raise BlockingIOError(
                f"path {path.parent} is in use by {holder}; allowed: another folder, or this one when that "
                "process has ended"
            ) from error
        _close(descriptor)


def _lock(descriptor: int) -> str:
    """Lock an open file and write the holder into it. Raises BlockingIOError when another holds it."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise BlockingIOError from error
        return error.strerror or str(error)
    name = f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    with contextlib.suppress(OSError):  # a full disk, which ends the run by itself
        os.ftruncate(descriptor, os.write(descriptor, name.encode()))
    return ""


def _holder(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    name = os.read(descriptor, _MOST_NAME).decode(errors="replace").strip()
    return printable(name) or "another process"


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file still is the one at `path`."""
    if sys.platform == "win32":  # where nobody removes an open file
        return True
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False


def _close(descriptor: int) -> None:
    if descriptor in _held:  # not in a fork
        _held.remove(descriptor)
        os.close(descriptor)


def _leave_to_parent() -> None:
    """Close a forked process's copies of its parent's locks, which would outlive the parent in it."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
