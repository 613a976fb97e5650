"""The parts that all trackers of experiments share: names of a run, pictures, and a guard against errors."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from processor.engine.trackers import Record, Tracker
from utils.distributed import is_first
from utils.text import one_line

_logger = logging.getLogger("transreid.trackers")


@dataclass(frozen=True)
class Experiment:
    """Names and places of a run, from which a tracker is made.

    Args:
        output_dir: the run's folder, which has `config.yml`, `metrics.jsonl`, checkpoints and their cards.
        name: of the experiment, the group of comparable runs.
        run: of the run; each stage is shown as `{run}_{stage}`.
        uri: server or file, of trackers that have one; '' for the tracker's own default.
        checkpoints: whether trackers that keep files also get the checkpoints.
    """

    output_dir: Path
    name: str
    run: str
    uri: str = ""
    checkpoints: bool = False


class Board(Tracker, Protocol):
    """A tracker that also shows pictures."""

    def show(self, name: str, path: Path, record: Record) -> None:
        """Show the PNG file `path`, which is called `name`; it is of the epoch of `record`, just logged."""
        ...


class Guarded:
    """Calls a tracker in the first process only, and makes one warning of all its errors: the run goes on.

    After an error the tracker is called again as before: a server may be back.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.name, self._has_failed = tracker, tracker.name, False

    def start(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """See `Tracker`."""
        self._call("start", config, environment)

    def log(self, record: Record) -> None:
        """See `Tracker`."""
        self._call("log", record)

    def log_step(self, record: Record) -> None:
        """See `Tracker`."""
        self._call("log_step", record)

    def show(self, name: str, path: Path, record: Record) -> None:
        """See `Board`."""
        self._call("show", name, path, record)

    def state(self) -> dict[str, Any]:
        """The tracker's own; empty where it fails."""
        return self._call("state") or {}

    def rewind(self, state: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        self._call("rewind", state)

    def finish(self, status: str) -> None:
        """See `Tracker`."""
        self._call("finish", status)

    def _call(self, method: str, *args: object) -> Any:
        if not is_first():
            return None
        try:
            return getattr(self.tracker, method)(*args)
        except Exception as error:  # of any library
            if not self._has_failed:
                reason = f"{type(error).__name__}: {one_line(error)}"
                _logger.warning(
                    "tracker %s: %s; the run goes on, metrics.jsonl has its numbers, and further errors of "
                    "this tracker are not shown",
                    self.name,
                    reason,
                )
            self._has_failed = True
            return None
