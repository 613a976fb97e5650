"""Progress of long work: a bar on a terminal, and in log files a line now and then with the time left."""

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from tqdm import tqdm

_EVERY = 20.0  # seconds between two lines
_logger = logging.getLogger("transreid")
_Step = TypeVar("_Step")


def followed(steps: Iterable[_Step], name: str, *, shown: bool = True) -> Iterator[_Step]:
    """The steps themselves, with their progress shown under `name`, if it is to be `shown`.

    Time left is known where the steps have a length. Work of less than 20 seconds logs nothing.
    """
    if not shown:
        yield from steps
        return
    bar = tqdm(steps, desc=name, leave=False, disable=None)
    if not bar.disable:
        yield from bar
        return
    total = len(steps) if hasattr(steps, "__len__") else 0  # pyright: ignore[reportArgumentType]
    began = told = time.monotonic()
    for done, step in enumerate(steps, start=1):
        yield step
        now = time.monotonic()
        if now - told < _EVERY or done == total:
            continue
        told = now
        if total:
            left = timedelta(seconds=round((now - began) / done * (total - done)))
            _logger.info("%s: %d of %d batches, about %s left", name, done, total, left)
        else:
            _logger.info("%s: %d batches", name, done)
