"""Trackers of experiments outside of the run's own files, and the table of them.

A new one is a file here and a row in `TRACKERS`.
"""

from collections.abc import Callable
from typing import NamedTuple

from processor.trackers.board import Board, Experiment, Guarded
from processor.trackers.mlflow import Mlflow
from processor.trackers.mlflow_runs import require_address
from processor.trackers.rankings import RankingPictures, draw_rankings
from processor.trackers.tensorboard import TensorBoard
from utils.package import require_extra

__all__ = [
    "TRACKERS",
    "Board",
    "Experiment",
    "Guarded",
    "Mlflow",
    "RankingPictures",
    "Row",
    "TensorBoard",
    "draw_rankings",
    "find_trackers",
]


class Row(NamedTuple):
    """A tracker.

    `make` makes it, without reading or writing anything. `extra` is what it needs, '' for nothing, and
    `check` raises ValueError for a `uri` that it does not take.
    """

    make: Callable[[Experiment], Board]
    extra: str = ""
    check: Callable[[str], None] | None = None


TRACKERS: dict[str, Row] = {
    "tensorboard": Row(TensorBoard, extra="tensorboard"),
    "mlflow": Row(Mlflow, extra="mlflow", check=require_address),
}
NONE = "none"


def find_trackers(names: str, uri: str = "") -> list[Callable[[Experiment], Board]]:
    """The makers of trackers by their names, with commas between them; none for 'none'.

    Raises ValueError for an unknown name, one that stands there twice, and a `uri` that one of them does not
    take; MissingExtra for a package.
    """
    given = [name.strip() for name in names.split(",")]
    if given == [NONE]:
        return []
    if len({*given}) < len(given) or not TRACKERS.keys() >= {*given}:
        known = ", ".join(map(repr, TRACKERS))
        raise ValueError(f"names is {names!r}; allowed: {NONE!r}, or once each, with commas, {known}")
    rows = [TRACKERS[name] for name in given]
    for row in rows:
        if row.check:
            row.check(uri)
        if row.extra:
            require_extra(row.extra)
    return [row.make for row in rows]
