"""The runs of a training in MLflow: the calls of its client, each of which can be repeated."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from processor.trackers.board import Experiment
from processor.trackers.queue import Line
from utils.lock import locked
from utils.text import few, one_line, printable, quoted, shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
_FILE, _NO_PATH = "sqlite:///", re.compile("[?%#]")
_ENDS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_MOST_SETTINGS = 100  # of parameters and tags in a call
_LONGEST = {"parameter": 6000, "tag": 5000}  # characters; MLflow refuses or cuts longer ones
_TRAINING, _STAGE = "clipreid.training", "clipreid.stage"
_CHANGED = "resumed."
_MAKING, _AGAIN = 60.0, 0.2  # seconds in which another process makes its tables; until the next look
# Read by MLflow. A dead server must not hold up a training: what failed is sent again later, from here.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds without an answer
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_logger = logging.getLogger("transreid.trackers")


def require_address(uri: str) -> None:
    """Raise ValueError if `uri` is not '', http(s)://… without a password, or sqlite:///….

    A password would stand in the files of the run: the error does not show it either.
    """
    try:
        parts = urlsplit(uri)
        has_user = parts.username is not None
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        known = known and not (parts.query or parts.fragment)
    except ValueError:  # of brackets, or of a port
        known, has_user = False, "@" in uri
    if known and has_user:
        raise ValueError(
            "uri holds a user or a password, which the run's files would show; allowed: an address without, "
            "and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        )
    if not uri or known or (uri.startswith(_FILE) and uri != _FILE and not _NO_PATH.search(uri)):
        return
    shown = "an address with '@'" if "@" in uri else quoted(uri)
    raise ValueError(
        f"uri is {shown}; allowed: '' for a file in the run's folder, http://host:port, https://host or "
        f"{_FILE}path/to/{DATABASE} (MLflow 3 keeps no runs in plain folders)"
    )


class Runs:
    """The runs of a training, one for each stage, which are found again by tags and by their ids.

    Args:
        experiment: names and places.

    Attributes:
        training: a key of this training, in the tags of its runs.
        ids: MLflow's ids of the runs by stage.
        config: settings by full key, the parameters of each run.
        environment: versions and the machine, tags of each run.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.training = experiment, uuid4().hex
        self.ids: dict[str, str] = {}
        self.config: Mapping[str, Any] = {}
        self.environment: Mapping[str, str] = {}
        self._opened: set[str] = set()
        self._names: dict[str, set[str]] = {}  # by stage: metrics that a run had when it was opened
        self._steps: dict[tuple[str, str], set[int]] = {}  # by stage and name

    @cached_property
    def _file(self) -> Path | None:
        """The database, None of a server. Raises ValueError where no database of MLflow can be."""
        uri = self.experiment.uri
        if uri and not uri.startswith(_FILE):
            return None
        file = Path(uri.removeprefix(_FILE) or self.experiment.output_dir / DATABASE).absolute()
        if found := _NO_PATH.search(str(file)):
            raise ValueError(
                f"{printable(file)} has a '{found[0]}', which is no part of a database's address"
            )
        try:  # MLflow would try again for minutes
            with closing(sqlite3.connect(file, timeout=5)) as database:
                database.execute("PRAGMA schema_version")
        except sqlite3.Error as error:
            raise ValueError(f"{printable(file)}: {one_line(error)}") from error
        return file

    @cached_property
    def client(self) -> MlflowClient:
        """Calls MLflow; the import takes seconds. Raises errors of MLflow for a file that is no database."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        if self._file is None:
            return MlflowClient(self.experiment.uri)
        with _alone(self._file), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tables as they are made
            return MlflowClient(f"{_FILE}{self._file}")

    @cached_property
    def group(self) -> str:
        """The id of the experiment, which is made where there is none."""
        from mlflow.exceptions import MlflowException

        name = self.experiment.name
        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = None if self._file is None else (self._file.parent / ARTIFACTS).as_uri()
            try:
                return self.client.create_experiment(name, place)
            except MlflowException:  # another process was faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise ValueError(f"experiment {quoted(name)} was deleted in MLflow")
        return found.experiment_id

    def forget_lost(self) -> bool:
        """Forget the ids if there are no such runs, as in a new database; says whether that was so."""
        from mlflow.exceptions import MlflowException

        try:
            for run in self.ids.values():
                self.client.get_run(run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self.ids.clear()
            return True
        return False

    def open(self, stage: str) -> str:
        """The id of a stage's run, which is found, or made, and described when it is first asked for."""
        if stage not in self._opened:
            self.ids[stage] = self.ids.get(stage) or self._find(stage) or self._create(stage)
            run = self.client.get_run(self.ids[stage])
            if run.info.status != "RUNNING":
                self.client.update_run(run.info.run_id, status="RUNNING")
            self._describe(run)
            self._names[stage] = {*run.data.metrics}
            self._opened.add(stage)
        return self.ids[stage]

    def send(self, stage: str, lines: Iterable[Line]) -> None:
        """Add the numbers of which the run has not got that step yet."""
        from mlflow.entities import Metric

        run = self.open(stage)
        metrics = [
            Metric(name, value, round(line.time * 1000), line.step)
            for line in lines
            for name, value in line.metrics.items()
            if line.step not in self._had(stage, name)
        ]
        if metrics:
            self.client.log_batch(run, metrics=metrics)

    def send_file(self, stage: str, name: str) -> bool:
        """Add a file of the run's folder as an artefact; False where it is gone."""
        path = self.experiment.output_dir / name
        if not path.is_file():
            return False
        folder = str(Path(name).parent)
        self.client.log_artifact(self.open(stage), str(path), None if folder == "." else folder)
        return True

    def end(self, stage: str, status: str) -> None:
        """Note how a stage ended, as `Tracker.finish` names it."""
        self.client.set_terminated(self.ids[stage], _ENDS[status])

    def _find(self, stage: str) -> str | None:
        """The run of an earlier call that had no answer, or of a process that was killed soon after it."""
        wanted = f"tags.`{_TRAINING}` = '{self.training}' and tags.`{_STAGE}` = '{stage}'"
        found = self.client.search_runs([self.group], wanted, max_results=1)
        return found[0].info.run_id if found else None

    def _create(self, stage: str) -> str:
        tags = {_TRAINING: self.training, _STAGE: stage}
        name = f"{self.experiment.run}_{stage}"
        return self.client.create_run(self.group, tags=tags, run_name=name).info.run_id

    def _describe(self, run: Run) -> None:
        """Send the settings that the run lacks; those that changed are tags, as parameters cannot change."""
        from mlflow.entities import Param, RunTag

        params, tags = run.data.params, run.data.tags
        config = {name: _short(value, "parameter") for name, value in self.config.items()}
        missing = [Param(name, value) for name, value in config.items() if name not in params]
        told = {f"environment.{name}": _short(value, "tag") for name, value in self.environment.items()}
        changed = {
            f"{_CHANGED}{name}": shortened(value, _LONGEST["tag"])
            for name, value in config.items()
            if value != tags.get(f"{_CHANGED}{name}", params.get(name, value))
        }
        if changed:
            shown = few([name.removeprefix(_CHANGED) for name in changed])
            text = "tracker mlflow: %s, %d keys with another value than %s began with: tags '%s…' have it"
            _logger.info(text, shown, len(changed), run.info.run_name, _CHANGED)
        for part in _parts(missing):
            self.client.log_batch(run.info.run_id, params=part)
        for part in _parts([RunTag(*tag) for tag in (told | changed).items()]):
            self.client.log_batch(run.info.run_id, tags=part)

    def _had(self, stage: str, name: str) -> set[int]:
        """The steps that the run had of a metric when it was opened."""
        if name not in self._names[stage]:
            return set()
        if (stage, name) not in self._steps:
            history = self.client.get_metric_history(self.ids[stage], name)
            self._steps[stage, name] = {metric.step for metric in history}
        return self._steps[stage, name]


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """No other training opens the database: two that make its tables at once spoil it."""
    until = time.monotonic() + _MAKING
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(database.with_name(f"{database.name}.lock")))
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise
            time.sleep(_AGAIN)
        yield


def _short(value: object, kind: str) -> str:
    return shortened(value, _LONGEST[kind])


def _parts(values: Sequence[Any]) -> Iterator[list[Any]]:
    rest = iter(values)
    while part := [*islice(rest, _MOST_SETTINGS)]:
        yield part
