"""Reads `.npz` files of unknown origin: arrays of numbers and texts, in memory in proportion to the file."""

import math
import os
import sys
import warnings
import zipfile
from zipfile import ZipFile, ZipInfo

import numpy as np

from utils.text import printable, shortened
from utils.untrusted.plain import MEBIBYTE, open_plain

MAX_ARRAYS = 16 * 1024 * MEBIBYTE  # of a whole file
# Labels and paths, whose texts are padded, become many times smaller; features hardly do.
_MAX_RATIO, _SMALL = 20, 64 * MEBIBYTE
_MAX_TABLE = 2**16  # bytes of the table of contents; ours has 13 entries
_KINDS = "fiuU"  # NumPy's letters: floats, integers, texts
_MAX_HEADER = 1000  # characters
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_arrays(path: str | os.PathLike[str], form: str) -> dict[str, np.ndarray]:
    """The arrays by name, in this machine's order of bytes. Headers are compared with sizes before reading.

    Raises FileNotFoundError or OSError, or ValueError for a file that is no plain `.npz`, is damaged, or says
    that it holds more than it does; each is one line with the path. `form` stands in it: 'a feature file'.
    """
    with open_plain(path, MAX_ARRAYS) as file:
        try:
            # ZipFile makes an object of each entry, and its own function knows where their table ends.
            end = zipfile._EndRecData(file)
            if end and end[zipfile._ECD_SIZE] > _MAX_TABLE:
                raise ValueError(f"its table of contents has {end[zipfile._ECD_SIZE]:,} bytes")
            with ZipFile(file) as archive, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about headers of former versions of NumPy
                _check_sizes(archive, os.fstat(file.fileno()).st_size)
                members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
                return {member.filename.removesuffix(".npy"): _read(archive, member) for member in members}
        except OSError as error:
            raise OSError(f"{printable(path)} cannot be read: {error.strerror}") from error
        except Exception as error:  # readers raise many types, all due to the file
            reason = shortened(printable(error)) or type(error).__name__
            raise ValueError(f"{printable(path)} is not {form}: {reason}") from error


def _check_sizes(archive: ZipFile, size: int) -> None:
    stored = inflated = 0
    for member in archive.infolist():
        if member.compress_type == zipfile.ZIP_STORED:
            stored += member.file_size
        elif member.compress_type == zipfile.ZIP_DEFLATED:
            inflated += member.file_size
        else:
            raise ValueError(f"{member.filename} is compressed in a way that NumPy does not use")
    if stored > size or inflated > max(_SMALL, _MAX_RATIO * size):
        raise ValueError(f"its parts are said to have {stored + inflated:,} bytes, but it has {size:,}")


def _read(archive: ZipFile, member: ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename} has version {version} of the format; allowed: {[*_HEADERS]}")
        shape, _, dtype = _HEADERS[version](file, max_header_size=_MAX_HEADER)
        if dtype.kind not in _KINDS:
            raise ValueError(f"{member.filename} holds {dtype}; allowed: numbers and texts")
        count, begins, name = math.prod(shape), file.tell(), f"{member.filename} of shape {shape}"
        if min(shape, default=0) < 0 or begins + count * dtype.itemsize != member.file_size:
            raise ValueError(f"{name} does not have the {member.file_size:,} bytes of its file")
        if count > member.file_size:
            raise ValueError(f"{name} would have more items than bytes")
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False, max_header_size=_MAX_HEADER)
        file.read(1)  # at the end the checksum is compared
    array = array.astype(dtype.newbyteorder("="), copy=False)
    if dtype.kind == "U" and array.size and array.reshape(-1).view(np.uint32).max() > sys.maxunicode:
        raise ValueError(f"{member.filename} holds a letter that does not exist")
    return array
