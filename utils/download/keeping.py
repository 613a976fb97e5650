"""Fetches a source into a folder: one at a time, checked, and kept by one rename or not at all."""

import contextlib
import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.download.fetching import Fetch, fetch_by_gdown, is_full
from utils.download.source import Source
from utils.lock import locked
from utils.package import MissingExtra
from utils.systems import replace
from utils.text import one_line, quoted
from utils.untrusted.archives import unpack

_logger = logging.getLogger("transreid.download")
_SPACE = 2  # times the known size: the archive, and what is unpacked
_POLL = 1.0  # seconds
_FOR_ALL = 0o644  # gdown's files are for their owner only
_MESSAGE = 200  # characters of an error's own words


def download_source(
    name: str,
    source: Source,
    root: Path,
    fetch: Fetch = fetch_by_gdown,
    check: Callable[[Path], object] = lambda path: None,
) -> Path:
    """The folder or file of `source` below `root`, fetched if it is not there.

    `name` stands in messages and in the hidden folder of a part that is broken off, with which the next call
    goes on. `check` raises ValueError for a file that must not be kept. Of several processes that fetch the
    same, one does and the others wait. What is there is never replaced. Raises ValueError or OSError, each
    one line with what to do by hand, and then leaves nothing but such a part.
    """
    there = source.find(root)
    if there is None:
        if source.terms:
            raise ValueError(f"{name} {source.terms}; {source.by_hand(root)}")
        with _one_line(name, source, root), _work_folder(name, root) as work:
            there = source.find(root)  # another process may have fetched it meanwhile
            if there is None:
                return _fetch(name, source, root, work, fetch, check)
    _logger.info("%s is there: %s", name, there)
    return there


def _fetch(
    name: str, source: Source, root: Path, work: Path, fetch: Fetch, check: Callable[[Path], object]
) -> Path:
    _require_space(source.size, root)
    file = work / (Path(source.target).name if source.is_file else "archive")
    _logger.info("Fetching %s from %s", name, source.url)
    try:
        fetch(source.url, file)
    except (ValueError, OSError, MissingExtra):
        raise
    except Exception as error:  # fetchers of others raise what they like
        raise OSError(one_line(error, _MESSAGE) or type(error).__name__) from error
    _require_content(file)
    _check_sum(name, source, file)
    if source.is_file:
        check(file)
        file.chmod(_FOR_ALL)
        found = file
    else:
        files = unpack(file, work / "unpacked")
        file.unlink()
        found = _find_folder(work / "unpacked", source.marker)
        check(found)
        _logger.info("%s: %d files unpacked", name, files)
    target = root / source.target
    target.parent.mkdir(parents=True, exist_ok=True)
    replace(found, target)
    _logger.info("%s is in %s", name, target)
    return target


def _require_space(size: int, root: Path) -> None:
    free = shutil.disk_usage(root).free
    if _SPACE * size > free:
        raise OSError(f"{root} has room for {free:,} bytes, needed are {_SPACE * size:,}")


def _require_content(file: Path) -> None:
    """Raise OSError where nothing has come, or a page that people read: a quota, a login, an error."""
    if not file.is_file() or not file.stat().st_size:
        raise OSError("nothing came")
    with open(file, "rb") as content:
        start = content.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"<"):  # no archive, JSON or weights
        raise OSError("a web page came instead of the file, as where a quota is used up or a login is needed")


def _check_sum(name: str, source: Source, file: Path) -> None:
    with open(file, "rb") as content:
        sums = [hashlib.md5(usedforsecurity=False), hashlib.sha256()]
        while block := content.read(1 << 20):
            for each in sums:
                each.update(block)
    md5, sha256 = (each.hexdigest() for each in sums)
    if not source.md5:
        _logger.warning("%s: no checksum to compare with; that of this file is sha256 %s", name, sha256)
    elif md5 != source.md5:
        raise ValueError(f"the file has md5 {md5}, expected is {source.md5}")


def _find_folder(unpacked: Path, marker: str) -> Path:
    """The uppermost folder with the marker. Raises ValueError where there is none."""
    level = [unpacked]
    while marker and level:
        found = next((folder for folder in level if (folder / marker).exists()), None)
        if found:
            return found
        level = sorted(child for folder in level for child in folder.iterdir() if child.is_dir())
    if marker:
        names = ", ".join(quoted(path.name) for path in sorted(unpacked.iterdir())[:3]) or "nothing"
        raise ValueError(f"the archive has no {marker}; it has {names}")
    return unpacked


@contextmanager
def _work_folder(name: str, root: Path) -> Iterator[Path]:
    """A hidden folder of this process in `root`, of which only parts of a fetcher outlive an error.

    The folders that are made for it go, too, if nothing stays in them.
    """
    label = f".download-{name.replace('/', '-')}"
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    work = root / label
    try:
        with _waiting(root / f"{label}.lock"):
            if work.is_symlink():
                work.unlink()  # what it leads to is not ours to clear
            work.mkdir(exist_ok=True)
            try:
                _clear(work)  # what a kill has left
                yield work
            except BaseException as error:
                _clear(work, parts=is_full(error))
                raise
            else:
                _clear(work, parts=True)
            finally:
                with contextlib.suppress(OSError):
                    work.rmdir()
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextmanager
def _waiting(path: Path) -> Iterator[None]:
    """Hold a lock when nobody else does any more."""
    told = False
    with contextlib.ExitStack() as held:
        while True:
            try:
                unlocked = held.enter_context(locked(path))
                break
            except BlockingIOError as error:
                if not told:
                    _logger.info("Waiting: %s", error)
                told = True
                time.sleep(_POLL)
        if unlocked:
            _logger.warning("%s cannot be locked (%s): a second download would not wait", path, unlocked)
        yield


def _clear(work: Path, *, parts: bool = False) -> None:
    """Remove all from the folder, with or without the parts that fetchers have left."""
    for path in list(work.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif parts or path.suffix != ".part":
            path.unlink()


@contextmanager
def _one_line(name: str, source: Source, root: Path) -> Iterator[None]:
    """Errors with the name in front and what to do by hand behind."""
    try:
        yield
    except MissingExtra:
        raise
    except (ValueError, OSError) as error:
        kind = ValueError if isinstance(error, ValueError) else OSError
        reason = f"the disk of {root} is full" if is_full(error) else one_line(error, _MESSAGE)
        raise kind(f"{name} was not fetched: {reason}; {source.by_hand(root)}") from error
