"""Files that survive: state dicts read without running code and written beside, then renamed."""

import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

_CONTAINERS = ("state_dict", "model")  # what other programs wrap a state dict in


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict on the CPU: a `torch.save` file, a TorchScript archive, or a `.safetensors` file.

    A `module.` prefix (from DataParallel) is removed; a dict under `state_dict` or `model` is unwrapped.
    Nothing that the file contains is executed. Raises FileNotFoundError, or ValueError when the file is
    no checkpoint or holds pickled code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    content = _read(path)
    for key in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} is no checkpoint: it holds a {type(content).__name__}, not named tensors")
    odd = [key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if odd:
        raise ValueError(f"{path} is no checkpoint: its entry {odd[0]!r} is not a tensor")
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def is_torchscript(path: str | Path) -> bool:
    """Whether the file is a TorchScript archive, the form in which OpenAI published CLIP."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file: {_reason(error)}") from error
    try:
        with warnings.catch_warnings():  # about forms that are deprecated, but the files are there to stay
            warnings.simplefilter("ignore")
            if is_torchscript(path):
                # TorchScript is unpickled by a reader that knows tensors only; its code is never called.
                return torch.jit.load(path, map_location="cpu").state_dict()
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no checkpoint of plain tensors (pickled code is never run): {_reason(error)}"
        ) from error
    except Exception as error:  # whatever else a reader stumbles over, it is the file's fault
        raise ValueError(f"{path} is no checkpoint: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The part of a reader's message that says what is wrong; the rest is advice to developers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next(
        (line for line in lines if "Unsupported" in line), lines[0] if lines else type(error).__name__
    )
    return told[:160]


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, flush it to the disk and rename it over `path`.

    A full disk or a kill in between leaves the former file whole.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(beside)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def make_output_dir(path: str | Path) -> Path:
    """Create the folder and prove that a file can be written there; raises OSError with the folder's name."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write_probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"OUTPUT_DIR {path} is not writable: {error.strerror}") from error
    return path


def require_writable(path: str | Path, option: str) -> None:
    """Prove that a file can be written at `path`; raises OSError with the option and the reason."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{option} {path} is a folder; allowed: the path of a file")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(
            f"{option} {path}: no file can be written in {path.parent}: {error.strerror}"
        ) from error
