"""Checks run on weight files before and after loading; `torch.load(weights_only=True)` loads them.

It runs no code of a file, but a few bytes can make it allocate, copy or hash without end.
"""

import pickle
import pickletools
import reprlib
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from utils.text import printable, shortened

_ZIP_START = b"PK\x03\x04"
_MAX_INFLATED = 2**26  # bytes of compressed members; only TorchScript has some, its source code
_LEGACY_PICKLES = 5  # magic number, version, system, content, names of storages
_MAX_NAME = 300  # characters
# Tensors may share their numbers, but one number that is expanded to 10¹² exhausts memory when it is copied.
_MAX_SHARED, _SMALL = 4, 2**29

# Bounds of one pickle, whose unpickling then takes seconds. `keys` are items of those that can be made with
# equal hashes: tuples, and numbers of more than 56 bits. `copied` are items in what calls are given, because
# all may be given the same.
_BOUNDS = {"calls": 100_000, "keys": 10_000, "copied": 1_000_000}
_MAX_STEPS = 1_000_000  # a tensor takes about 25
_MAX_VISITED = 2000  # items in nested tuples, all of which hashing visits; Python's random state has 627
_OF_A_TENSOR = 64  # items that its call is given
_PUTS, _GETS = ("BINPUT", "LONG_BINPUT"), ("BINGET", "LONG_BINGET")
# All that torch.save and TorchScript write.
_STEPS = {
    *("APPEND", "APPENDS", "BINFLOAT", "BININT", "BININT1", "BININT2", "BINPERSID", "BINUNICODE", "BUILD"),
    *(
        "EMPTY_DICT",
        "EMPTY_LIST",
        "EMPTY_SET",
        "EMPTY_TUPLE",
        "GLOBAL",
        "LONG1",
        "MARK",
        "NEWFALSE",
        "NEWOBJ",
    ),
    *("NEWTRUE", "NONE", "PROTO", "REDUCE", "SETITEM", "SETITEMS", "SHORT_BINSTRING", "STOP"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", *_PUTS, *_GETS),
}


def check_archive(path: Path) -> None:
    """Raise ValueError if a `torch.save` or TorchScript file is damaged or declares more than it can hold.

    Compares the checksums of a zip file's members, and checks their sizes and those in its pickles without
    unpickling them. Other forms have no checksums, nor have files after `set_crc32_options(False)`.
    """
    with open(path, "rb") as file:
        if file.read(len(_ZIP_START)) == _ZIP_START:
            with zipfile.ZipFile(file) as archive:
                _check_sizes(archive, path.stat().st_size)
                _check_sums(archive)
                for member in archive.infolist():
                    if member.filename.casefold().endswith("data.pkl"):
                        _check_pickle(BytesIO(archive.read(member)))
            return
        file.seek(0)
        with suppress(tarfile.HeaderError):  # versions of torch before 2.6 would unpack a tar file
            tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape")
            raise ValueError("it is a tar file")
        file.seek(0)
        for _ in range(_LEGACY_PICKLES):
            if file.peek(1):
                _check_pickle(file)


def is_mappable(path: Path) -> bool:
    """Whether torch can map a file that `check_archive` passes: a zip file with members stored as they are.

    Its name must be UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def _check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    stored = inflated = 0
    for member in archive.infolist():
        if member.compress_type == zipfile.ZIP_STORED:
            stored += member.file_size
        else:
            inflated += member.file_size
    if stored > size or inflated > _MAX_INFLATED:
        raise ValueError(f"its parts are said to have {stored + inflated} bytes, but it has {size}")


def _check_sums(archive: zipfile.ZipFile) -> None:
    members: list[Any] = archive.infolist()
    if not any(member.CRC for member in members):
        for member in members:
            member.CRC = None  # zipfile then compares none
    elif (name := archive.testzip()) is not None:
        name = shortened(printable(name), 60)
        raise ValueError(f"its part {name} is damaged, the checksum differs: restore the file from a copy")


class _Item:
    """An object on the pickle machine's stack.

    `visits`: items that hashing it goes through. `size`: items in it, at any depth. `keys`: the visits of
    those that can be made with equal hashes. `name`: of a class or function. `closed`: it is in another one,
    whose numbers count it, so nothing may be added to it.
    """

    __slots__ = ("closed", "keys", "name", "size", "visits")

    def __init__(self, name: str = "") -> None:
        self.visits, self.size, self.keys, self.closed, self.name = 1, 1, 0, False, name

    def hold(self, items: Iterable["_Item"]) -> "_Item":
        """Put items into it."""
        if self.closed:
            raise ValueError("it is broken")
        for item in items:
            self.size += item.size
            self.keys += item.keys + item.cost
            item.closed = True
        return self

    @property
    def cost(self) -> int:
        """Its visits if it can be made with the hash of others."""
        return self.visits if self.visits > 1 else 0


class _Machine:
    """Follows the pickle machine without making its objects. Raises ValueError beyond `_BOUNDS`."""

    def __init__(self) -> None:
        self.stack: list[_Item | None] = []  # None is a mark
        self.memo: dict[int, _Item | None] = {}
        self.left = dict(_BOUNDS)

    def spend(self, what: str, amount: int) -> None:
        """Count what unpickling does."""
        self.left[what] -= amount
        if self.left[what] < 0:
            raise ValueError(f"more than {_BOUNDS[what]:,} {what} in a pickle")

    def take(self, op: pickletools.OpcodeInfo) -> list[_Item]:
        """Remove and return what an operation takes from the stack."""
        stack = self.stack
        start = len(stack) - len(op.stack_before)
        if pickletools.markobject in op.stack_before:
            marks = (place for place in reversed(range(len(stack))) if stack[place] is None)
            start = next(marks, 0) - op.stack_before.index(pickletools.markobject)
        start = max(start, 0)
        taken = stack[start:]
        del stack[start:]
        return [item for item in taken if item is not None]

    def make(self, name: str, taken: list[_Item]) -> _Item:
        """What an operation leaves on the stack."""
        if name.startswith("TUPLE"):
            made = _Item().hold(taken)
            made.visits += sum(item.visits for item in taken)
            if made.visits > _MAX_VISITED:
                raise ValueError(f"tuples of more than {_MAX_VISITED} items")
            return made
        if name in ("APPEND", "APPENDS"):
            return taken[0].hold(taken[1:])
        if name in ("SETITEM", "SETITEMS"):
            self.spend("keys", sum(key.cost for key in taken[1::2]))
            return taken[0].hold(taken[1:])
        if name in ("REDUCE", "NEWOBJ"):
            return self.call(*taken)
        if name == "BUILD":
            self.spend("copied", taken[1].size)
            return taken[0]
        if name == "BINPERSID":  # the names of storages become keys
            self.spend("keys", taken[0].keys)
        return _Item()

    def push(self, op: pickletools.OpcodeInfo, argument: Any) -> None:
        """Put a value, a class, a mark or what is remembered on the stack."""
        if op.name == "GLOBAL" and argument.endswith("bytearray"):
            raise ValueError(f"{argument} has no place in a checkpoint")
        made: _Item | None = _Item(argument if op.name == "GLOBAL" else "")
        if op.name == "MARK":
            made = None
        elif op.name in _GETS:
            made = self.memo[argument]
        elif op.name == "LONG1" and argument.bit_length() > 56:
            made.visits += 1 + argument.bit_length() // 64
        if op.stack_after:
            self.stack.append(made)

    def put(self, place: Any, position: Any) -> None:
        """Remember the object on top of the stack."""
        if place > position:  # readers make room for that many objects
            raise ValueError("it is broken")
        self.memo[place] = self.stack[-1]

    def call(self, function: _Item, arguments: _Item) -> _Item:
        """The result of a call: a tensor, or a container that may be a copy of what it is given."""
        self.spend("calls", 1)
        if function.name.startswith("torch._utils _rebuild"):
            self.spend("copied", max(arguments.size - _OF_A_TENSOR, 0))
            return _Item()
        self.spend("copied", arguments.size)
        self.spend("keys", arguments.keys)
        made = _Item()
        made.visits, made.size, made.keys = arguments.visits, arguments.size, arguments.keys
        return made


def _check_pickle(file: BinaryIO) -> None:
    """Bound what unpickling allocates, copies and hashes."""
    machine = _Machine()
    try:
        for step, (op, argument, position) in enumerate(pickletools.genops(file)):
            if op.name not in _STEPS:
                raise pickle.UnpicklingError(f"Unsupported operation {op.name}")
            if step > _MAX_STEPS:
                raise ValueError(f"more than {_MAX_STEPS:,} steps in a pickle")
            if op.name in _PUTS:
                machine.put(argument, position)
            elif not op.stack_before:
                machine.push(op, argument)
            elif op.name != "STOP":
                machine.stack.append(machine.make(op.name, machine.take(op)))
    except (IndexError, KeyError, UnicodeError, TypeError) as error:
        raise ValueError("it is broken") from error


def check_claims(content: object, path: Path) -> None:
    """Raise ValueError if the tensors in a file's content claim much more memory than the file has bytes."""
    level, seen, claimed = [content], set(), 0
    while level:
        each = level.pop()
        if isinstance(each, Tensor):
            claimed += each.numel() * each.element_size()
        elif isinstance(each, Mapping | list | tuple) and id(each) not in seen:
            seen.add(id(each))
            level += each.values() if isinstance(each, Mapping) else each
    if claimed > _MAX_SHARED * path.stat().st_size + _SMALL:
        raise ValueError(f"its tensors claim {claimed:,} bytes, more than it holds")


def check_state_dict(content: object, path: Path) -> None:
    """Raise ValueError unless content read from `path` maps printable names to plain tensors."""
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} is no checkpoint: it holds a {type(content).__name__}, not named tensors")
    for key, value in content.items():
        if not isinstance(key, str) or not key.isprintable() or len(key) > _MAX_NAME:
            raise ValueError(f"{path} is no checkpoint: its entry {reprlib.repr(key)} is no name of a tensor")
        if not isinstance(value, Tensor):
            raise ValueError(f"{path} is no checkpoint: its entry {key!r} is not a tensor")
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
            raise ValueError(f"{path} is no checkpoint: its entry {key!r} is not a tensor of plain numbers")
