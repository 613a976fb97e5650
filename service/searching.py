"""Searches of a gallery that many threads ask for: those of equal conditions become one search."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import torch

from service.batching import Batcher

if TYPE_CHECKING:
    from torch import Tensor

    from retrieval import Gallery, Hit

_AT_ONCE = 4  # searches of different conditions


class Conditions(NamedTuple):
    """All of a search but its features, as `Gallery.search` takes it."""

    space: str
    k: int
    exclude_camera: str
    cameras: tuple[str, ...] | None
    since: datetime | None
    until: datetime | None


class Searches:
    """Searches a gallery by features (D,); a request to a store costs more than a further row in it.

    At most `waiting` searches wait, of which `most` are taken at once.
    """

    def __init__(self, gallery: Gallery, *, most: int, waiting: int) -> None:
        self._gallery = gallery
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._batcher = Batcher(self._answer, most=most, patience=0, waiting=waiting)

    def __call__(self, features: Tensor, conditions: Conditions) -> list[Hit]:
        """The hits, nearest first. Raises as `Gallery.search` does, and Busy."""
        found = self._batcher((features, conditions))
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """Answer what is waiting, and end the threads."""
        self._batcher.close()
        self._pool.shutdown()

    def _answer(self, asked: list[tuple[Tensor, Conditions]]) -> list[list[Hit] | Exception]:
        groups: dict[Conditions, list[int]] = {}
        for place, (_, conditions) in enumerate(asked):
            groups.setdefault(conditions, []).append(place)
        rows = [torch.stack([asked[place][0] for place in places]) for places in groups.values()]
        answers: list[list[Hit] | Exception] = [[] for _ in asked]
        found = self._pool.map(self._search, rows, groups)
        for places, hits in zip(groups.values(), found, strict=True):
            for i, place in enumerate(places):
                answers[place] = hits if isinstance(hits, Exception) else hits[i]
        return answers

    def _search(self, rows: Tensor, conditions: Conditions) -> Sequence[list[Hit]] | Exception:
        """The hits of features (Q, D); an error is that of these searches only."""
        try:
            return self._gallery.search(rows, **conditions._asdict())
        except Exception as error:
            return error
