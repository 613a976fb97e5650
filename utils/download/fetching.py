"""Programs of others that fetch: gdown for addresses, also Google Drive's, and DVC for one's own remotes."""

import errno
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from utils.package import MissingExtra, require_extra
from utils.text import one_line

_logger = logging.getLogger("transreid.download")
Fetch = Callable[[str, Path], object]  # (address, file to write)
_MESSAGE = 150  # characters of the words of others in an error
_WAIT = 60.0  # seconds without a byte
_RETRIES = 3
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that the disk has no room, by itself or by its cause."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False


def fetch_by_gdown(url: str, path: Path) -> None:
    """Fetch `url`, an address of Google Drive or another one, as `path`; goes on with a part next to it.

    A part that is broken off stays next to `path`. Raises MissingExtra without gdown; OSError, in one line,
    when nothing comes, too little comes, or the disk is full.
    """
    require_extra("download")
    from gdown.exceptions import DownloadError

    try:
        _keep_newest(path)
        try:
            _download(url, path)
        except DownloadError as error:
            if "byte range" not in str(error):
                raise
            _logger.warning("%s does not give the rest of a file: it is fetched from its beginning", url)
            _remove(_parts(path))
            _download(url, path)
    except (DownloadError, OSError) as error:
        if is_full(error):
            raise
        raise OSError(one_line(" ".join(str(error).split()), _MESSAGE)) from error


def _download(url: str, path: Path) -> None:
    import gdown

    quiet = not sys.stderr.isatty()
    gdown.download(url, str(path), quiet=quiet, resume=True, timeout=_WAIT, retries=_RETRIES)


def _keep_newest(path: Path) -> None:
    """Remove all parts but one: gdown goes on with none where there are several."""
    parts = _parts(path)
    _remove(parts[:-1])
    if parts:
        size = parts[-1].stat().st_size
        _logger.info("Going on with the %d bytes that an earlier attempt has left", size)


def _parts(path: Path) -> list[Path]:
    """What gdown has left next to `path`, the newest last."""
    return sorted(path.parent.glob(f"{path.name}*.part"), key=os.path.getmtime)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()


def pull_by_dvc(names: Sequence[str], root: Path, remote: str = "") -> None:
    """Run `dvc pull` in `root` for the first of these files that is there; '' is DVC's default remote.

    Raises FileNotFoundError without such a file, MissingExtra without the program, OSError with its last line
    when it fails.
    """
    name = next((name for name in names if (root / name).is_file()), None)
    if name is None:
        files = " or ".join(str(root / name) for name in names)
        raise FileNotFoundError(f"{files}: no such file, expected there: what `dvc add` writes")
    program = shutil.which("dvc")
    if program is None:
        raise MissingExtra('the program dvc is not installed; needed: pip install "clipreid[dvc]"')
    command = [program, "pull", name, *(["--remote", remote] if remote else [])]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise OSError(f"dvc pull {name}: {one_line(lines[-1], _MESSAGE)}")
