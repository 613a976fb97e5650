"""Facts for a run's receipt that travel with lines of its log, as their `extra`."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def without(counts: Mapping[str, int]) -> dict[str, Any]:
    """For a line about things that are there and not used: how many, by reason."""
    return {"left_out": dict(counts)}


def reads_weights(role: str, path: str | Path) -> dict[str, Any]:
    """For a line about a weights file: what it is read for, as `Section.weights` names it."""
    return {"weights": {role: str(path)}}


class Notes(logging.Handler):
    """Collects these facts: counts by reason, which add up, and paths of weights by what they are for."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: Counter[str] = Counter()
        self.weights: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Take what a line brings."""
        self.left_out.update({k: n for k, n in getattr(record, "left_out", {}).items() if n})
        self.weights |= getattr(record, "weights", {})


@contextmanager
def noting() -> Iterator[Notes]:
    """Collect from the lines of the logger `transreid` that are logged in the context."""
    notes, logger = Notes(), logging.getLogger("transreid")
    logger.addHandler(notes)
    try:
        yield notes
    finally:
        logger.removeHandler(notes)
