"""Notices a stage that learns nothing: losses and accuracy where they are without learning, poor rankings."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from processor.engine.signs import Sign
from processor.engine.stage import Plan
from utils.distributed import is_first

_FEWEST = 5  # epochs in a row
_SHARE = 6  # of a longer stage's epochs, one in so many: rates rise in the first ones
_logger = logging.getLogger("transreid.train")


class Watch:
    """Warns once in a run, in the first process, when a stage seems to learn nothing.

    Signs of the means count when they hold for several epochs in a row, a sixth of the stage and five at the
    least; a poor evaluation counts from the middle of the stage on.

    Args:
        below: after an evaluation, says why it is poor, or ''; None where nothing is compared.
        reasons: what most often is the reason, for the warning.
    """

    def __init__(self, below: Callable[[], str] | None = None, reasons: Sequence[str] = ()) -> None:
        self.below, self.reasons = below, reasons
        self._epochs: Counter[tuple[str, str]] = Counter()
        self._warned = False

    def see_epoch(self, stage: str, plan: Plan, signs: Sequence[Sign], means: Mapping[str, float]) -> None:
        """Look at the means of an epoch, which has at least `samples`."""
        samples, needed = int(means.get("samples", 0)), max(_FEWEST, plan.epochs // _SHARE)
        found = []
        for sign in signs:
            place, holds = (stage, sign.name), False
            if samples > 0 and math.isfinite(means.get(sign.name, math.nan)):
                holds = sign.holds(means, samples)
            self._epochs[place] = self._epochs[place] + 1 if holds else 0
            if self._epochs[place] >= needed:
                found.append(f"{sign.text.format(value=means[sign.name])} for {self._epochs[place]} epochs")
        self._warn(stage, found)

    def see_evaluation(self, stage: str, epoch: int, plan: Plan) -> None:
        """Look at an evaluation after an epoch (from 1)."""
        if self.below is not None and not self._warned and 2 * epoch >= plan.epochs:
            found = self.below()
            self._warn(stage, [found] if found else [])

    def _warn(self, stage: str, found: Sequence[str]) -> None:
        if not found or self._warned or not is_first():
            return
        self._warned = True
        most = f"; most often the reason is one of: {'; '.join(self.reasons)}" if self.reasons else ""
        _logger.warning("%s seems to learn nothing: %s%s", stage, ", and ".join(found), most)
