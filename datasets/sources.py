"""Public data sets that are missing: fetched before a run, or named with where they can be had."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.data_sources import DATA_SOURCES
from utils.distributed import gather_objects
from utils.download import download_source
from utils.launch import local_rank

_logger = logging.getLogger("transreid.datasets")
CAPTIONS = "cuhk_pedes_captions"


def fetch_missing(name: str, root: Path) -> None:
    """Fetch the data set `name` if its folder is not in `root`; nothing for names that have no source.

    Of the processes of a run the first one of each machine does, and all go on when it has ended. Raises
    ValueError or OSError, one line with what to do by hand, in every process.
    """
    if name not in DATA_SOURCES:
        _logger.info("%s: your own images are not downloaded", name)
        return
    failure: Exception | None = None
    if local_rank() == 0:
        try:
            download_source(name, DATA_SOURCES[name], root)
        except Exception as error:  # raised below, when the others know
            failure = error
    failures = gather_objects(failure and str(failure))
    if failure is not None:
        raise failure
    told = next(filter(None, failures), None)
    if told:
        raise OSError(told)


@contextmanager
def naming_download(name: str, root: Path) -> Iterator[None]:
    """Adds the command that fetches, or says where to get, a data set to the error of its missing folder."""
    try:
        yield
    except FileNotFoundError as error:
        source = DATA_SOURCES.get(name)
        if source is None or source.find(root):
            raise
        what = "where to get it" if source.terms else "what fetches it"
        raise FileNotFoundError(f"{error}; {what}: python tools/download.py {name} --root {root}") from error
