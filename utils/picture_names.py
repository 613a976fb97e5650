"""Names of pictures by what they are: files of equal bytes have one name, wherever they lie.

A copy, a link and another spelling of a path are thus the same picture.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from tqdm import tqdm

from utils.files import sha256_of_file
from utils.untrusted.pictures import MAX_BYTES

_logger = logging.getLogger("transreid.retrieval")


def name_pictures(paths: Sequence[str]) -> list[str]:
    """The names (N,) of the pictures in N files: the SHA-256 of the bytes in hex.

    A file that cannot be read is named by its path, absolute and normalised; their number is logged.
    """
    distinct = list(dict.fromkeys(paths))
    with ThreadPoolExecutor() as pool:
        digests = tqdm(pool.map(_digest, distinct), "compare files", len(distinct), leave=False, disable=None)
        names = dict(zip(distinct, digests, strict=True))
    unreadable = sum(not name for name in names.values())
    if unreadable:
        _logger.warning(
            "%d of %d image files cannot be read: copies of them are not found, only equal paths",
            unreadable,
            len(distinct),
        )
    return [names[path] or os.path.abspath(path) for path in paths]


def _digest(path: str) -> str:
    """'' where there is no plain file, or one that is too large for an image."""
    try:
        state = os.stat(path)
        return _cached_digest(path, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns))
    except (OSError, ValueError):  # no image's file, or what no file name can hold
        return ""


# An evaluation every few epochs does not read all files again.
@lru_cache(1 << 17)
def _cached_digest(path: str, state: tuple[int, ...]) -> str:
    return sha256_of_file(path, MAX_BYTES)
