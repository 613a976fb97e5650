"""What Linux, macOS and Windows do each in their own way: bytes of a file, the way to the disk, a rename."""

import contextlib
import os
import sys
import time

if sys.platform == "darwin":
    import fcntl

# For `os.open`: without it Windows reads \r\n as \n, takes byte 26 for the end, and writes \n as \r\n.
BINARY = getattr(os, "O_BINARY", 0)
# A program that looks for viruses or makes an index opens new files for a moment.
_WAITS = (0.01, 0.05, 0.2, 0.5, 1.0) if sys.platform == "win32" else ()  # seconds


def flush(descriptor: int) -> None:
    """Flush an open file to the disk; Windows wants it open for writing. Raises OSError."""
    if sys.platform == "darwin":  # where fsync leaves the bytes to the disk's own memory
        with contextlib.suppress(OSError):  # shared disks may not know the call
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def replace(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """`os.replace`: at every moment `target` is the former file or the new one.

    Windows refuses it while another program has one of them open, so there it is tried for two seconds.
    """
    for wait in _WAITS:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(wait)
    os.replace(source, target)
