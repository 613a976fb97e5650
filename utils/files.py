"""Writers that leave a whole file or none, and checksums."""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from utils.systems import BINARY, flush, replace
from utils.untrusted.plain import open_plain, require_plain

_READERS = ("read_checkpoint", "read_state_dict")


def __getattr__(name: str) -> Any:
    """The names by which other programs have known the readers of `utils.weights`, which imports torch."""
    if name not in _READERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from utils import weights

    return getattr(weights, name)


def sha256_of_file(path: str | Path, limit: int | None = None) -> str:
    """SHA-256 of a plain file's bytes, at most `limit`, in hex; raises as `open_plain` does."""
    digest = hashlib.sha256()
    with open_plain(path, limit) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a hidden file next to `path`, flush it to the disk and rename it to `path`.

    A full disk or a kill in between leaves the former file whole. After a kill the hidden file stays until
    the next write of `path` replaces it; only one process may write `path` at a time. Raises OSError that
    says why nothing could be written and what is kept, ValueError where `path` is a pipe, a device or the
    like, which the file would take the place of.
    """
    path = Path(path)
    require_plain(path)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        beside.unlink(missing_ok=True)  # what a kill left, or a link or a pipe that somebody put there
        write(beside)
        with open(beside, "r+b") as file:
            flush(file.fileno())
        replace(beside, path)
    except Exception as error:
        reason = _system_reason(error)
        if reason is None:
            raise
        kept = "the former file is kept" if path.is_file() else "no file was written"
        if not path.parent.is_dir():
            kept += f", as the folder {path.parent} does not exist"
        raise OSError(f"{path} cannot be written: {reason}; {kept}") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def save_torch(content: object, path: str | Path) -> None:
    """`torch.save` by way of `write_atomically`; raises OSError as that does."""
    import torch  # programs without torch write other files

    def write(beside: Path) -> None:
        # Given a path, torch writes in C++, whose errors lack the reason.
        with open(beside, "wb") as file:
            torch.save(content, file)

    write_atomically(path, write)


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
    """Write an .npz of these arrays and of `info` as JSON; a failure leaves a former file whole."""
    content = {**arrays, "info": np.array(json.dumps(dict(info)), dtype=np.str_)}

    def write(temporary: Path) -> None:
        # Through a handle: np.savez appends ".npz" to a name without it.
        with open(temporary, "wb") as file:
            np.savez(file, **content)  # pyright: ignore[reportArgumentType]

    write_atomically(path, write)


def append_line(path: str | Path, line: str) -> None:
    """Append a line of text, without its newline, to a file and flush it to the disk; creates the file.

    Raises ValueError for several lines and for what is no plain file, and OSError, with the path and the
    reason, when it cannot be written; the file then has its former length.
    """
    if "\n" in line:
        raise ValueError(f"{path}: {line!r} is more than one line")
    require_plain(path)
    rest = f"{line}\n".encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | BINARY, 0o666)
        try:
            former = os.fstat(descriptor).st_size
            try:
                while rest:  # on a full disk a part is written, and the next call fails
                    rest = rest[os.write(descriptor, rest) :]
                flush(descriptor)
            except OSError:
                os.ftruncate(descriptor, former)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(f"{path}: no line can be appended: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """Flush a rename to the disk, on systems where a folder can be flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _system_reason(error: BaseException | None) -> str | None:
    """Why the system refused to write, if that caused an error; else None."""
    reason = None
    while error is not None:
        if isinstance(error, OSError):
            return error.strerror or str(error)
        if type(error) is RuntimeError and re.search(r"inline_container|PytorchStream|iostream", str(error)):
            reason = "torch's writer failed, as it does on a full disk"
        error = error.__cause__ or error.__context__
    return reason


def make_output_dir(path: str | Path) -> Path:
    """Create a folder and check that a file can be written there; raises OSError with its path."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        raise OSError(f"path {path} is not writable: {_system_reason(error) or error}") from error
    return path


def require_writable(path: str | Path, option: str) -> None:
    """Check that a file can be written at `path`; raises OSError with the option's name and the reason."""
    path = Path(path)
    try:
        require_plain(path)
    except ValueError as error:
        raise OSError(f"{option} {error}") from error
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(
            f"{option} {path}: no file can be written in {path.parent}: {error.strerror}"
        ) from error
