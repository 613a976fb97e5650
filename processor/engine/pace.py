"""How far a stage is and about how long the rest of it takes, for the log and the progress bar."""

import logging
import time
from datetime import timedelta

from processor.engine.resume import Progress

_WORTH = 60.0  # seconds
_logger = logging.getLogger("transreid.train")


class Pace:
    """Foretells the end of a stage of `epochs` from what this process has trained of it.

    Checkpoints and evaluations between epochs count, as far as there have been some.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._began, self._from, self._told = time.monotonic(), -1.0, False

    def start(self, progress: Progress, total: int) -> None:
        """Note where this process begins, if it has not begun; `total` batches are an epoch."""
        if self._from < 0:
            self._from = _epochs_done(progress, total)

    def left(self, progress: Progress, total: int) -> float | None:
        """Seconds to the end of the stage, or None where nothing is trained yet."""
        done = _epochs_done(progress, total)
        if self._from < 0 or done <= self._from:
            return None
        return (self.epochs - done) * (time.monotonic() - self._began) / (done - self._from)

    def rest(self, progress: Progress, total: int) -> str:
        """'about 3:05:12 left', or '' where it is not known or less than a second."""
        left = self.left(progress, total)
        return "" if left is None or left < 1 else f"about {timedelta(seconds=round(left))} left"

    def log_first(self, stage: str, progress: Progress, total: int) -> None:
        """Log where the stage is, once before the end of an epoch, where a minute or more is left."""
        if not self._told and (self.left(progress, total) or 0) >= _WORTH:
            self.log(stage, progress, total)

    def log(self, stage: str, progress: Progress, total: int) -> None:
        """Log where the stage is: 'stage2: epoch 5/60, about 3:05:12 left'; nothing at its end."""
        self._told, rest = True, self.rest(progress, total)
        if progress.epoch < self.epochs or progress.iteration < total:
            _logger.info("%s: epoch %d/%d%s", stage, progress.epoch, self.epochs, rest and f", {rest}")


def _epochs_done(progress: Progress, total: int) -> float:
    return progress.epoch - 1 + progress.iteration / max(total, 1)
