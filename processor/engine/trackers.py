"""Where the numbers of a run go: the tracker protocol, and its first form, `metrics.jsonl`."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import NonNegativeInt

from utils.distributed import is_first
from utils.files import append_line
from utils.untrusted.forms import Form, check_form
from utils.untrusted.plain import require_plain

METRICS_FILE = "metrics.jsonl"
Record = Mapping[str, float | int | str]


class Report(NamedTuple):
    """The result of an evaluation: `values` by name for trackers, `lines` for the log."""

    values: dict[str, float]
    lines: list[str]


class Tracker(Protocol):
    """Receives a run's settings once, one record an epoch, and records of some steps.

    `name` is the tracker's key in `last.pt`, which keeps what `state` returns; `rewind` gets it back when the
    run resumes and forgets all later records, since these epochs are trained again.
    """

    name: str

    def start(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Note the settings (by full key) and the machine of a run that begins or resumes."""
        ...

    def log(self, record: Record) -> None:
        """Note an epoch; the record holds at least `stage`, `epoch` and `time`, in seconds since 1970."""
        ...

    def log_step(self, record: Record) -> None:
        """Note a step within an epoch: its own losses and report, not means.

        The record holds at least `stage`, `epoch`, `iteration` of the epoch and `step` of the stage, both
        from 1, and `time`.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Numbers and text with which `rewind` returns to this point."""
        ...

    def rewind(self, state: Mapping[str, Any]) -> None:
        """Return to the point at which `state` was taken."""
        ...

    def finish(self, status: str) -> None:
        """Note how the run ended: 'finished', 'stopped' or 'failed'."""
        ...


def timed(record: Record) -> Record:
    """The record with its `time`, to a millisecond, so that sent again later it is the same one."""
    return {**record, "time": round(time.time(), 3)}


class _Length(Form):
    bytes: NonNegativeInt


class JsonLines:
    """Appends each record as one JSON object to `metrics.jsonl`; only the first process writes."""

    name = "metrics.jsonl"

    def __init__(self, output_dir: Path) -> None:
        self.path = output_dir / METRICS_FILE

    def start(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Raise ValueError where lines cannot be appended; `config.yml` and the log have the settings."""
        require_plain(self.path)

    def log(self, record: Record) -> None:
        """Append a line without values that JSON cannot hold, the NaN means of nothing. Raises OSError."""
        if is_first():
            finite = {n: v for n, v in record.items() if isinstance(v, str) or math.isfinite(v)}
            append_line(self.path, json.dumps(finite))

    def log_step(self, record: Record) -> None:
        """Nothing: a line is an epoch."""

    def state(self) -> dict[str, Any]:
        """The length of the file."""
        return {"bytes": self.path.stat().st_size if self.path.exists() else 0}

    def rewind(self, state: Mapping[str, Any]) -> None:
        """Cut the lines of epochs that will be trained again."""
        length = check_form(dict(state), _Length, self.name).bytes
        if is_first() and self.path.exists() and self.path.stat().st_size > length:
            with open(self.path, "r+b") as file:
                file.truncate(length)

    def finish(self, status: str) -> None:
        """Nothing: the last line is the end."""
