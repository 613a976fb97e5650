"""Checks run on weight files before and after loading; `torch.load(weights_only=True)` loads them.

It runs no code of a file, but a few bytes can make it allocate or hash without end.
"""

import pickletools
import reprlib
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

_ZIP_START = b"PK\x03\x04"
_MAX_INFLATED = 2**26  # bytes of compressed members; only TorchScript has some, its source code
_MAX_ITEMS = 2000  # in nested tuples; Python's random state has 627
_LEGACY_PICKLES = 5  # magic number, version, system, content, names of storages
_MAX_NAME = 300  # characters
# Tensors may share their numbers, but one number that is expanded to 10¹² exhausts memory when it is copied.
_MAX_SHARED, _SMALL = 4, 2**31


def check_archive(path: Path) -> None:
    """Raise ValueError if a `torch.save` or TorchScript file declares more than it can hold.

    Checks the sizes of a zip file's members, and the sizes in its pickles without unpickling them.
    """
    with open(path, "rb") as file:
        if file.read(len(_ZIP_START)) == _ZIP_START:
            with zipfile.ZipFile(file) as archive:
                _check_sizes(archive, path.stat().st_size)
                for member in archive.infolist():
                    if member.filename.casefold().endswith("data.pkl"):
                        _check_pickle(BytesIO(archive.read(member)))
            return
        file.seek(0)
        if tarfile.is_tarfile(file):  # versions of torch before 2.6 would unpack it
            raise ValueError("it is a tar file")
        file.seek(0)
        for _ in range(_LEGACY_PICKLES):
            if file.peek(1):
                _check_pickle(file)


def _check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    stored = inflated = 0
    for member in archive.infolist():
        if member.compress_type == zipfile.ZIP_STORED:
            stored += member.file_size
        else:
            inflated += member.file_size
    if stored > size or inflated > _MAX_INFLATED:
        raise ValueError(f"its parts are said to have {stored + inflated} bytes, but it has {size}")


def _check_pickle(file: BinaryIO) -> None:
    """Bound what unpickling allocates, and nested tuples: hashing one visits shared items again and again.

    Follows the pickle machine: the stack holds the number of items of each object, and None for a mark.
    """
    stack: list[int | None] = []
    memo: dict[int, int | None] = {}
    try:
        for op, argument, position in pickletools.genops(file):
            if op.name == "DUP" or (op.name in ("GLOBAL", "INST") and argument.endswith("bytearray")):
                raise ValueError(f"{op.name} {argument or ''} has no place in a checkpoint")
            if op.name.endswith("PUT") or op.name == "MEMOIZE":
                place = len(memo) if argument is None else argument
                if place > position:  # readers make room for that many objects
                    raise ValueError("it is broken")
                memo[place] = stack[-1]
                continue
            items = None if op.name == "MARK" else memo[argument] if op.name.endswith("GET") else 1
            taken = _take(stack, op)
            if "TUPLE" in op.name or op.name == "FROZENSET":
                items = 1 + sum(filter(None, taken))
                if items > _MAX_ITEMS:
                    raise ValueError(f"tuples of more than {_MAX_ITEMS} items")
            stack += [items] * len(op.stack_after)
    except (IndexError, KeyError, UnicodeError) as error:
        raise ValueError("it is broken") from error


def _take(stack: list[int | None], op: pickletools.OpcodeInfo) -> list[int | None]:
    """Remove and return what an operation takes from the stack."""
    start = len(stack) - len(op.stack_before)
    if pickletools.markobject in op.stack_before:
        marks = (place for place in reversed(range(len(stack))) if stack[place] is None)
        start = next(marks, 0) - op.stack_before.index(pickletools.markobject)
    start = max(start, 0)
    taken = stack[start:]
    del stack[start:]
    return taken


def check_state_dict(content: object, path: Path) -> None:
    """Raise ValueError unless content read from `path` maps printable names to plain tensors.

    Their numbers may not claim much more memory than the file has bytes.
    """
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} is no checkpoint: it holds a {type(content).__name__}, not named tensors")
    for key, value in content.items():
        if not isinstance(key, str) or not key.isprintable() or len(key) > _MAX_NAME:
            raise ValueError(f"{path} is no checkpoint: its entry {reprlib.repr(key)} is no name of a tensor")
        if not isinstance(value, Tensor):
            raise ValueError(f"{path} is no checkpoint: its entry {key!r} is not a tensor")
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
            raise ValueError(f"{path} is no checkpoint: its entry {key!r} is not a tensor of plain numbers")
    size = sum(value.numel() * value.element_size() for value in content.values())
    if size > _MAX_SHARED * path.stat().st_size + _SMALL:
        raise ValueError(f"{path} is no checkpoint: its tensors claim {size} bytes, more than it holds")
