"""Reads the tensors of TorchScript archives without running their code.

`torch.jit.load` runs code: what the file defines as `__setstate__`.
"""

import pickle
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_MAX_MODULES = 100_000
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


def is_torchscript(path: str | Path) -> bool:
    """Whether the file is a TorchScript archive, the form in which OpenAI published CLIP."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":  # zip files within others are nobody's
            return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of a TorchScript archive on the CPU, in the order of its state dict.

    Their names are taken from the archive's source code, which is read as text and never compiled. Call
    `check_archive` first. Raises ValueError or pickle.UnpicklingError, or the errors of a broken zip file.
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
    """Stands in for an object of any class in the file; holds its class name and attributes."""

    name = ""

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _named_tensors(
    module: _Object,
    kept: dict[str, tuple[list[str], list[str]]],
    prefix: str,
    places: Iterator[int],
) -> Iterator[tuple[str, Tensor]]:
    if next(places, None) is None:  # a module can be in several places, and so can those in it
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
    """Unpickles tensors, plain values and `_Object`s only; refuses every other name."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive, self._root = archive, root
        self._classes: dict[str, type[_Object]] = {}
        self._bytes: dict[str, bytearray] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name in the pickle; nothing is imported."""
        full = f"{module}.{name}"
        if module == "__torch__" or module.startswith("__torch__."):
            return self._classes.setdefault(full, type("_Object", (_Object,), {"name": full}))
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if full == "torch._utils._rebuild_tensor_v2":
            return self._tensor
        if full == "collections.OrderedDict":
            return dict
        if module == "torch.jit._pickle":  # the types of lists
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
