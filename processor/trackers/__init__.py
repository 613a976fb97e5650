"""Trackers of experiments outside of the run's own files, and the table of them.

A new one is a file here and a row in `TRACKERS`.
"""

from collections.abc import Callable
from typing import NamedTuple

from processor.trackers.board import Board, Experiment, Guarded
from processor.trackers.rankings import RankingPictures, draw_rankings
from processor.trackers.tensorboard import TensorBoard
from utils.package import require_extra

__all__ = [
    "TRACKERS",
    "Board",
    "Experiment",
    "Guarded",
    "RankingPictures",
    "Row",
    "TensorBoard",
    "draw_rankings",
    "find_trackers",
]


class Row(NamedTuple):
    """How a tracker is made, which reads and writes nothing yet, and its extra, '' where it needs none."""

    make: Callable[[Experiment], Board]
    extra: str = ""


TRACKERS: dict[str, Row] = {
    "tensorboard": Row(TensorBoard, extra="tensorboard"),
}
NONE = "none"


def find_trackers(names: str) -> list[Callable[[Experiment], Board]]:
    """The makers of trackers by their names, with commas between them; none for 'none'.

    Raises ValueError for an unknown name or one that stands there twice, MissingExtra for a package.
    """
    given = [name.strip() for name in names.split(",")]
    if given == [NONE]:
        return []
    if len({*given}) < len(given) or not TRACKERS.keys() >= {*given}:
        known = ", ".join(map(repr, TRACKERS))
        raise ValueError(f"names is {names!r}; allowed: {NONE!r}, or once each, with commas, {known}")
    for name in given:
        if TRACKERS[name].extra:
            require_extra(TRACKERS[name].extra)
    return [TRACKERS[name].make for name in given]
