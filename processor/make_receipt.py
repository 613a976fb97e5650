"""From the configuration to a run's receipt, `receipt.json`: how it came about, and what it found."""

import hashlib
import logging
import math
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from yacs.config import CfgNode

from config.load import leaves
from processor.engine import Record
from processor.make_parts import TrainingData
from processor.make_session import Session
from retrieval import RetrievalMetrics, metric_intervals, metrics_record
from utils.distributed import is_first, world_size
from utils.environment import describe_environment, peak_memory
from utils.labels import NO_CAMERA
from utils.notes import Notes, noting
from utils.precision import training_precision
from utils.untrusted.receipts import FILE, Data, Section, Split, Weights, describe_weights, write_section

_logger = logging.getLogger("transreid")
_EVALUATED = "mAP"  # by which a record of an epoch with an evaluation is known
_LOW, _HIGH, _READ = "low ", "high ", "read as "
_BETWEEN = "; "  # commits


class TestDone(NamedTuple):
    """A test that has ended: its configuration, data, facts by their names in metrics.json, and metrics."""

    cfg: CfgNode
    dataset: TrainingData
    facts: Mapping[str, Any]
    metrics: RetrievalMetrics


class TrainingReceipt:
    """A tracker that keeps the section 'train' of a folder's receipt; only the first process writes.

    A new run replaces a former one's receipt at its start. One that goes on writes after it has trained: what
    a refused one found there stays. What cannot be written is a warning.

    Args:
        session: whose folder, device and state to go on from are meant.
        section: the run as far as it is known at its start.
        scored: the metrics of the last evaluation in this process, None before it.
    """

    name = FILE

    def __init__(
        self, session: Session, section: Section, scored: Callable[[], RetrievalMetrics | None]
    ) -> None:
        self._output_dir, self._device, self._section = session.output_dir, session.device, section
        self._scored, self._resumed = scored, session.snapshot is not None
        self._began, self._before = time.monotonic(), 0.0
        self._trained = False

    def start(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Begin the section of a new run."""
        self._section = self._section.model_copy(update=_place(environment))
        if not self._resumed:
            self._write(anew=True)

    def log(self, record: Record) -> None:
        """Note the metrics of an evaluation, if the epoch had one."""
        self._trained = True
        metrics = self._scored()
        if _EVALUATED in record and metrics is not None:
            update = {"metrics": _finite(metrics_record(metrics)), "intervals": _intervals(metrics)}
            self._section = self._section.model_copy(update=update)
            self._write()

    def log_step(self, record: Record) -> None:
        """Note that something has been trained."""
        self._trained = True

    def state(self) -> dict[str, Any]:
        """What a run that goes on knows of its parts before: when it began, weights, commits, metrics."""
        section = self._section
        ranges = section.intervals.items()
        return {
            "started": section.started,
            "seconds": self._seconds(),
            "commits": _BETWEEN.join([*section.commits, section.commit]),
            **section.metrics,
            **{_LOW + name: low for name, (low, _) in ranges},
            **{_HIGH + name: high for name, (_, high) in ranges},
            **{_READ + role: f"{file.sha256} {file.path}" for role, file in section.weights.items()},
        }

    def rewind(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        numbers = {name: value for name, value in state.items() if type(value) in (int, float)}
        self._before = numbers.pop("seconds", 0.0)
        lows = {name.removeprefix(_LOW): n for name, n in numbers.items() if name.startswith(_LOW)}
        intervals = {name: [low, numbers.get(_HIGH + name, low)] for name, low in lows.items()}
        metrics = {name: n for name, n in numbers.items() if not name.startswith((_LOW, _HIGH))}
        texts = {name.removeprefix(_READ): text for name, text in state.items() if name.startswith(_READ)}
        halves = {role: str(text).partition(" ") for role, text in texts.items()}
        read = {role: Weights(path=path, sha256=sha256) for role, (sha256, _, path) in halves.items()}
        update = {"started": str(state.get("started", "")), "metrics": metrics, "intervals": intervals}
        update["weights"] = read | self._section.weights
        commits = dict.fromkeys(str(state.get("commits", "")).split(_BETWEEN))
        update["commits"] = [commit for commit in commits if commit not in ("", self._section.commit)]
        self._section = self._section.model_copy(update=update)

    def finish(self, status: str) -> None:
        """Note how the run ended, unless it went on from another one and has trained nothing."""
        if self._trained or not self._resumed:
            self._section = self._section.model_copy(update={"status": status})
            self._write()

    def _seconds(self) -> float:
        return round(self._before + time.monotonic() - self._began, 1)

    def _write(self, *, anew: bool = False) -> None:
        if not is_first():
            return
        update = {"seconds": self._seconds(), "peak_memory": peak_memory(self._device)}
        _write(self._output_dir, "train", self._section.model_copy(update=update), anew=anew)


def make_training_section(cfg: CfgNode, method: str, dataset: TrainingData, session: Session) -> Section:
    """A training that is about to begin; hashes the weights that it starts from."""
    precision = training_precision(cfg.SOLVER.AMP, session.device)
    update = {"precision": precision.name, "device": _device_name(session.device)}
    return _section(cfg, method, dataset, session.notes).model_copy(update=update)


@contextmanager
def noted_test(
    method: str, device: torch.device, output_dir: Path | None
) -> Iterator[Callable[[TestDone], None]]:
    """Gives what writes a test that has ended into the receipt of its folder; without a folder nothing."""
    began, started = time.monotonic(), _now()
    with noting() as notes:

        def write(test: TestDone) -> None:
            if output_dir is None or not is_first():
                return
            if test.cfg.TEST.WEIGHT:
                notes.weights["test"] = test.cfg.TEST.WEIGHT
            section = _section(test.cfg, method, test.dataset, notes)
            ended = {
                "precision": str(test.facts.get("precision", "")),
                "device": _device_name(device),
                **_place(describe_environment()),
                "facts": dict(test.facts),
                "started": started,
                "seconds": round(time.monotonic() - began, 1),
                "peak_memory": peak_memory(device),
                "status": "finished",
                "metrics": _finite(metrics_record(test.metrics)),
                "intervals": _intervals(test.metrics),
            }
            _write(output_dir, "test", section.model_copy(update=ended))

        yield write


def _section(cfg: CfgNode, method: str, dataset: TrainingData, notes: Notes) -> Section:
    return Section(
        method=method,
        seed=cfg.SOLVER.SEED,
        config=leaves(cfg),
        data=describe_data(dataset, notes.left_out),
        weights={role: describe_weights(path) for role, path in notes.weights.items()} if is_first() else {},
        processes=world_size(),
        started=_now(),
    )


def _place(environment: Mapping[str, str]) -> dict[str, Any]:
    """Command, commit and versions; the interpreter without its folder, which tells nothing elsewhere."""
    versions = dict(environment)
    interpreter, *words = shlex.split(versions.pop("command"))
    command = shlex.join([Path(interpreter).name, *words])
    return {"command": command, "commit": versions.pop("commit"), "versions": versions}


def describe_data(dataset: TrainingData, left_out: Mapping[str, int]) -> Data:
    """Counts and fingerprints of a data set; `left_out` are counts by reason."""
    splits = {"train": [dataset.train]} if dataset.train else {}
    splits |= {name: [getattr(trial, name) for trial in dataset.trials] for name in ("query", "gallery")}
    return Data(
        name=dataset.name,
        tested=dataset.tested,
        release=dataset.release,
        trials=len(dataset.trials),
        splits={name: _split(parts) for name, parts in splits.items()},
        left_out=dict(left_out),
    )


def _split(parts: list[Any]) -> Split:
    """Counts of the first part, and the fingerprint of all."""
    first = parts[0]
    captions = [record.caption for record in first if hasattr(record, "caption")]
    return Split(
        images=len({record.path for record in first}) if captions else len(first),
        identities=len({record.pid for record in first if record.pid >= 0}),
        cameras=len({record.camid for record in first if record.camid >= 0}),
        captions=len(captions),
        sha256=fingerprint(record for part in parts for record in part),
    )


def fingerprint(records: Iterable[Any]) -> str:
    """SHA-256 of names, identities as the data set writes them, and cameras, whatever their order.

    A camera is its rank among the known ones, as its number is higher where another set is trained on.
    """
    records = list(records)
    known = sorted({record.camid for record in records} - {NO_CAMERA})
    cameras = {camid: rank for rank, camid in enumerate(known)}
    lines = sorted(
        f"{Path(record.path).name} {record.texts.identity or record.pid} "
        f"{cameras.get(record.camid, NO_CAMERA)} "
        f"{getattr(record, 'caption', '')}"
        for record in records
    )
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _intervals(metrics: RetrievalMetrics) -> dict[str, list[float]]:
    """95 % ranges of the metrics, and of those of named trials as `{trial}_{metric}`."""
    found = {name: list(ends) for name, ends in metric_intervals(metrics.scores).items()}
    for trial, own in metrics.named.items():
        found |= {f"{trial}_{name}": list(ends) for name, ends in metric_intervals(own.scores).items()}
    return found


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _write(output_dir: Path, part: Literal["train", "test"], section: Section, *, anew: bool = False) -> None:
    try:
        write_section(output_dir, part, section, anew=anew)
    except (OSError, ValueError) as error:  # metrics and weights are there without it
        _logger.warning("no receipt: %s", error)
