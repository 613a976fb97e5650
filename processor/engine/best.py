"""Keeps the model of the best evaluation of a run."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt
from torch import nn

from processor.engine.journal import save_model
from processor.engine.trackers import Record
from utils.distributed import is_first
from utils.untrusted.forms import Form, check_form

_logger = logging.getLogger("transreid.train")


class _Best(Form):
    value: float
    epoch: NonNegativeInt


class BestModel:
    """A tracker that saves the model whenever an evaluation has a higher value than all before it.

    Args:
        model: saved at `path` as a plain state dict; only the first process writes.
        path: the file, which is replaced.
        split: the split that is evaluated, and so chooses the epoch.
        value: what is compared, by its name in records.
        label: how the log calls the value, '' for its name.
        describe: writes what travels next to the file, given its path.
    """

    name = "best model"

    def __init__(
        self,
        model: nn.Module,
        path: Path,
        split: str,
        *,
        value: str = "rank1",
        label: str = "",
        describe: Callable[[Path], object] | None = None,
    ) -> None:
        self.model, self.path, self.split, self.describe = model, path, split, describe
        self.value, self.label = value, label or value
        self._best: _Best | None = None

    def start(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Say in the log which split chooses the epoch; a warning where it is the test split."""
        if not is_first():
            return
        message = "%s will hold the epoch with the highest %s on the %s split"
        if self.split == "test":
            message += ": chosen by test results, its own results there are too good"
        level = logging.WARNING if self.split == "test" else logging.INFO
        _logger.log(level, message, self.path, self.label, self.split)

    def log(self, record: Record) -> None:
        """Save the model if the record is of the best evaluation so far. Raises OSError."""
        if self.value not in record:
            return
        found = check_form({"value": record[self.value], "epoch": record["epoch"]}, _Best, self.name)
        if self._best is None or found.value > self._best.value:
            save_model(self.model, self.path, describe=self.describe)
            self._best = found
            stage = record.get("stage", "this stage")
            _logger.info(
                "highest %s so far: %.4f in epoch %d of %s", self.label, found.value, found.epoch, stage
            )

    def log_step(self, record: Record) -> None:
        """Nothing: only evaluations count."""

    def state(self) -> dict[str, Any]:
        """The highest value and its epoch; empty before the first evaluation."""
        return {} if self._best is None else self._best.model_dump()

    def rewind(self, state: Mapping[str, Any]) -> None:
        """Return to the best evaluation of that time."""
        self._best = check_form(dict(state), _Best, self.name) if state else None

    def finish(self, status: str) -> None:
        """Say in the log which epoch a finished run has kept."""
        if status == "finished" and self._best is not None:
            best = self._best
            _logger.info("%s: %s %.4f, epoch %d", self.path, self.label, best.value, best.epoch)
