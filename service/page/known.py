"""The names and cameras of a gallery, which a store counts entry by entry: seconds in a large one."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from service.finder import Finder

_SHARE = 20  # of the time, at most a twentieth is spent on counting
_AT_ONCE = 1.0  # seconds that a change is worth

Counts = tuple[dict[str, int], dict[str, int]]  # entries by name and by camera


class Known:
    """Counts names and cameras, and keeps the counts while counting again would take too much time."""

    def __init__(self, finder: Finder, clock: Callable[[], float] = time.monotonic) -> None:
        self._finder, self._clock = finder, clock
        self._counting = threading.Lock()
        self._counts: Counts = {}, {}
        self._at, self._took = -math.inf, 0.0

    def __call__(self, *, changed: bool = False) -> Counts:
        """Entries by name and by camera, `changed` since the last call or not. Raises OSError.

        In a large gallery they are those of a while ago.
        """
        # Where somebody counts already, nobody waits but for the first counts.
        if not self._counting.acquire(blocking=self._at == -math.inf):
            return self._counts
        try:
            start = self._clock()
            if start - self._at > _SHARE * self._took or (changed and self._took < _AT_ONCE):
                self._counts = self._finder.identities(), self._finder.cameras()
                self._at = self._clock()
                self._took = self._at - start
            return self._counts
        finally:
            self._counting.release()
