"""Weight files of strangers: what is looked at before one is read; TorchScript archives without running them.

`torch.load(weights_only=True)` runs no code of a file, but a few bytes can make it hash or allocate for ever.
`torch.jit.load` does run code: what the file defines as `__setstate__`.
"""

import pickle
import pickletools
import re
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

_ZIP_START = b"PK\x03\x04"
_MAX_INFLATED = 2**26  # bytes of compressed members: source code of TorchScript, nothing else
_MAX_DEPTH, _MAX_ITEMS = 50, 2000  # of tuples within tuples; Python's random state has 627 items
_MAX_MODULES = 100_000
_LEGACY_PICKLES = 5  # magic number, version, system, content, names of storages
_MODULE_CLASS = re.compile(
    r"^class (\w+)\(Module\):\n  __parameters__ = \[([^\]\n]*)\]\n(?:  __buffers__ = \[([^\]\n]*)\]\n)?", re.M
)
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def check_archive(path: Path) -> None:
    """Raise ValueError when a file that `torch.save` shall have written declares more than it can hold.

    Sizes of a zip file's members are looked at, and the tuples and calls of the pickles, without unpickling.
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
        for number in range(_LEGACY_PICKLES):
            start = file.tell()
            if number and not file.read(1):
                return
            file.seek(start)
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
    """Follow the sizes of tuples, which may be keys: hashing one walks through all that is in it.

    The pickle machine's stack and memo are followed as far as they matter: (items, depth) of each object.
    """
    stack: list[tuple[int, int]] = []
    marks: list[int] = []
    memo: dict[int, tuple[int, int]] = {}
    try:
        for op, argument, position in pickletools.genops(file):
            if op.name in ("GLOBAL", "INST") and str(argument).split()[-1:] == ["bytearray"]:
                raise ValueError("a bytearray, which has no place in a checkpoint")
            if "PUT" in op.name:
                if argument > (position or 0) or not stack:
                    raise ValueError("it is broken")  # readers would make room for that many objects
                memo[argument] = stack[-1]
                continue
            if op.name == "MARK":
                marks.append(len(stack))
                continue
            if pickletools.markobject in op.stack_before:
                floor = (marks.pop() if marks else 0) - op.stack_before.index(pickletools.markobject)
            else:
                floor = len(stack) - len(op.stack_before)
            taken = stack[max(floor, 0) :]
            del stack[max(floor, 0) :]
            made = (1, 0)
            if "TUPLE" in op.name or op.name == "FROZENSET":
                made = (
                    1 + sum(items for items, _ in taken),
                    1 + max((depth for _, depth in taken), default=0),
                )
            elif "GET" in op.name:
                made = memo.get(argument, made)
            elif op.name in ("MEMOIZE", "DUP"):
                made = taken[0] if taken else made
                if op.name == "MEMOIZE":
                    memo[len(memo)] = made
            if made[0] > _MAX_ITEMS or made[1] > _MAX_DEPTH:
                raise ValueError(f"tuples of more than {_MAX_ITEMS} items or {_MAX_DEPTH} levels")
            stack.extend([made] * len(op.stack_after))
    except (IndexError, KeyError, UnicodeError) as error:
        raise ValueError("it is broken") from error


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of a TorchScript archive on the CPU, in the order of its state dict.

    Which tensors these are stands in the archive's source code, which is read as text and never compiled.
    Raises ValueError, pickle.UnpicklingError or what a broken zip file raises.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/constants.pkl")).partition("/")[0]
        content = _Reader(archive, root).load()
        if not isinstance(content, _Object):
            raise ValueError("its content is not a module")
        kept = _kept_names(archive, f"{root}/code/")
        return dict(_named_tensors(content, kept, "", iter(range(_MAX_MODULES))))


def _kept_names(archive: zipfile.ZipFile, folder: str) -> dict[str, tuple[list[str], list[str]]]:
    """Parameters and buffers of each class by its full name, `__torch__.torch.nn.modules.linear.Linear`."""
    kept = {}
    for name in archive.namelist():
        if name.startswith(folder) and name.endswith(".py"):
            source = archive.read(name).decode("utf-8")
            module = name.removeprefix(folder).removesuffix(".py").replace("/", ".")
            for found in _MODULE_CLASS.finditer(source):
                lists = tuple(re.findall(r'"([^"]*)"', part or "") for part in found.groups()[1:])
                kept[f"{module}.{found[1]}"] = lists
    return kept


class _Object:
    """What stands for an object of any class of the file: its name and its attributes."""

    name = ""

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _named_tensors(
    module: _Object,
    kept: dict[str, tuple[list[str], list[str]]],
    prefix: str,
    places: Iterator[int],
) -> Iterator[tuple[str, Tensor]]:
    if next(places, None) is None:  # modules may stand in several places, and so again and again
        raise ValueError(f"more than {_MAX_MODULES} modules")
    attributes = getattr(module, "attributes", {})
    for names in kept.get(module.name, ()):
        for name in names:
            if isinstance(attributes.get(name), Tensor):
                yield f"{prefix}{name}", attributes[name]
    for name, value in attributes.items():
        if isinstance(value, _Object):
            yield from _named_tensors(value, kept, f"{prefix}{name}.", places)


class _Reader(pickle.Unpickler):
    """Unpickles nothing but tensors, plain values and `_Object`s; every other name is refused."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive, self._root = archive, root
        self._classes: dict[str, type[_Object]] = {}
        self._bytes: dict[str, bytearray] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in the pickle; none is imported."""
        full = f"{module}.{name}"
        if module == "__torch__" or module.startswith("__torch__."):
            return self._classes.setdefault(full, type("_Object", (_Object,), {"name": full}))
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if full == "torch._utils._rebuild_tensor_v2":
            return self._tensor
        if full == "collections.OrderedDict":
            return dict
        if module == "torch.jit._pickle":  # these say of which type a list is
            return lambda value, *_: value
        raise pickle.UnpicklingError(f"Unsupported global: {full}")

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers of a storage, one-dimensional."""
        _, dtype, key, _, _ = pid
        if key not in self._bytes:
            self._bytes[key] = bytearray(self._archive.read(f"{self._root}/data/{key}"))
        content = self._bytes[key]
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)

    def _tensor(self, storage: Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> Tensor:
        return storage.as_strided(size, stride, offset)
