"""MLflow: numbers by epoch and by step, parameters, pictures and cards, at a server or in a file."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, NonNegativeInt

from processor.engine.trackers import Record
from processor.trackers.board import Experiment
from processor.trackers.mlflow_runs import Runs
from processor.trackers.queue import Line, Queue
from utils.trackers import tracked_metrics
from utils.untrusted.forms import Form, check_form

QUEUE = "mlflow_queue.jsonl"
_MOST_METRICS = 500  # in a call
_RUN = "run_"
_PATIENCE, _LONGEST = 100, 600.0  # how many times as long as an error took MLflow is left alone; seconds
_logger = logging.getLogger("transreid.trackers")


class _State(Form):
    uri: str
    training: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    length: NonNegativeInt
    sent: NonNegativeInt
    stage: str


class _File(NamedTuple):
    """A file to be sent, and the place in the queue from which it comes again."""

    stage: str
    name: str
    place: int


class Mlflow:
    """A run in MLflow for each stage, `{run}_{stage}`, which goes on where the training does.

    All there is to send passes through a file, `mlflow_queue.jsonl`, so that epochs, steps and files wait
    there while the server is away, also over a kill. What comes twice, as after a kill, is sent once: runs
    have a tag with a key of the training, and steps that a run has are left out.
    """

    name = "mlflow"

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.runs = experiment, Runs(experiment)
        self.queue = Queue(experiment.output_dir / QUEUE)
        self._sent, self._stage = 0, ""
        self._is_resumed = False  # and MLflow was not asked yet whether it still has the runs
        self._files: deque[_File] = deque()
        self._seen: dict[Path, int] = {}
        self._configured: set[str] = set()  # stages whose config.yml was on its way in this process
        self._numbers_wait, self._files_wait = _Wait(), _Wait()

    def start(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Keep the settings and the machine, which each run gets, and find the experiment."""
        self.runs.config, self.runs.environment = config, environment
        self._seen = self._checkpoints()
        _ = self.runs.client  # the import takes seconds, which are no sign of a slow server
        with self._numbers_wait.after_errors():
            _ = self.runs.group

    def log(self, record: Record) -> None:
        """Send the numbers of an epoch, and what was saved in it. Raises errors of MLflow and OSError."""
        self._append(record, step=False)
        found = self._checkpoints()
        for path in sorted(path for path in found if found[path] != self._seen.get(path)):
            weights = [path] if self.experiment.checkpoints else []
            for file in (*weights, path.with_suffix(".json")):
                if file.is_file():
                    self._append_file(record, file)
        self._seen = found
        self._send()

    def log_step(self, record: Record) -> None:
        """Send the numbers of a step. Raises errors of MLflow and OSError."""
        self._append(record, step=True)
        self._send()

    def show(self, name: str, path: Path, record: Record) -> None:
        """Send a picture of the run's folder. Raises errors of MLflow and OSError."""
        self._append_file(record, path)
        self._send()

    def state(self) -> dict[str, Any]:
        """The ids of the runs, and the places in the queue where it ends and where the unsent begins."""
        return {
            "uri": self.experiment.uri,
            "training": self.runs.training,
            "length": self.queue.length,
            "sent": self._unsent,
            "stage": self._stage,
            **{f"{_RUN}{stage}": run for stage, run in self.runs.ids.items()},
        }

    def rewind(self, state: Mapping[str, Any]) -> None:
        """Go on in the runs of that time; at another server all is sent again. Raises ValueError."""
        if not state:
            return
        then = check_form(dict(state), _State, self.name)
        self.runs.training = then.training
        self.queue.rewind(then.length)
        if then.uri != self.experiment.uri:
            _logger.info("tracker mlflow: the run began at another address, and is sent as a whole")
            return
        self._sent, self._stage, self._is_resumed = min(then.sent, self.queue.length), then.stage, True
        ids = {name.removeprefix(_RUN): run for name, run in state.items() if name.startswith(_RUN)}
        self.runs.ids.update(ids)

    def finish(self, status: str) -> None:
        """Send what waits, and note how the run ended. Raises errors of MLflow and OSError."""
        try:
            try:
                self._send(now=True)
            finally:
                if self._stage and self._sent == self.queue.length:  # files may wait, the run is over
                    self.runs.end(self._stage, status)
        except Exception:
            lines = sum(1 for _ in self.queue.read(self._sent))
            text = "tracker mlflow: %d lines and %d files of %s are not sent; --resume sends them"
            _logger.info(text, lines, len(self._files), self.queue.path)
            raise

    @property
    def _unsent(self) -> int:
        """The place from which on the queue has to be sent again."""
        return min([self._sent, *(file.place for file in self._files)])

    def _append(self, record: Record, step: bool) -> None:
        metrics = tracked_metrics(record, step)
        number = int(record["step" if step else "epoch"])
        stage = str(record["stage"])
        self.queue.append(Line(stage=stage, step=number, time=float(record["time"]), metrics=metrics))

    def _append_file(self, record: Record, path: Path) -> None:
        name = path.relative_to(self.experiment.output_dir).as_posix()
        self.queue.append(Line(stage=str(record["stage"]), file=name))

    def _checkpoints(self) -> dict[Path, int]:
        """The checkpoints in the run's folder, and when each was written."""
        return {path: path.stat().st_mtime_ns for path in self.experiment.output_dir.glob("*.pth")}

    def _send(self, now: bool = False) -> None:
        """Send what waits, unless MLflow failed a short while ago; numbers do not wait for files."""
        if now or self._numbers_wait.is_over:
            with self._numbers_wait.after_errors():
                self._begin_again_if_lost()
                for lines, end in _batches(self.queue.read(self._sent)):
                    self._send_lines(lines)
                    self._sent = end
        if now or self._files_wait.is_over:
            with self._files_wait.after_errors():
                self._send_files(most_errors=len(self._files) if now else 1)

    def _send_files(self, most_errors: int) -> None:
        """Send the files that wait, up to so many errors; a file that is refused goes behind the others."""
        errors: list[Exception] = []
        for _ in range(len(self._files)):
            stage, name, _place = self._files[0]
            try:
                if not self.runs.send_file(stage, name):
                    _logger.info("tracker mlflow: %s was removed before it was sent", name)
            except Exception as error:
                errors.append(error)
                self._files.rotate(-1)
                if len(errors) == most_errors:
                    break
            else:
                self._files.popleft()
        if errors:
            raise errors[0]

    def _begin_again_if_lost(self) -> None:
        """Send all of the queue where MLflow has no such runs, as in the new database of another machine."""
        if self._is_resumed and self.runs.forget_lost():
            _logger.info("tracker mlflow: the runs of before are not there, the training is sent as a whole")
            self._sent, self._stage = 0, ""
        self._is_resumed = False

    def _send_lines(self, lines: list[Line]) -> None:
        """Send lines of one stage; the one before has ended."""
        stage = lines[0].stage
        if self._stage not in ("", stage):
            self.runs.end(self._stage, "finished")
        self.runs.send(stage, lines)
        self._stage = stage
        names = [line.file for line in lines if line.file]
        if stage not in self._configured:
            self._configured.add(stage)
            names.insert(0, "config.yml")
        self._files += [_File(stage, name, self._sent) for name in names]


class _Wait:
    """How long to leave alone what has failed: a dead server costs a hundredth of the time."""

    def __init__(self) -> None:
        self._until = 0.0

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._until

    @contextmanager
    def after_errors(self) -> Iterator[None]:
        """What fails in the block was too early."""
        began = time.monotonic()
        try:
            yield
        except Exception:
            now = time.monotonic()
            self._until = now + min(_PATIENCE * (now - began), _LONGEST)
            raise


def _batches(lines: Iterator[tuple[Line, int]]) -> Iterator[tuple[list[Line], int]]:
    """Lines of one stage with so many numbers as a call may have, and the place behind them."""
    batch: list[Line] = []
    place = count = 0
    for line, end in lines:
        if batch and (line.stage != batch[0].stage or count + len(line.metrics) > _MOST_METRICS):
            yield batch, place
            batch, count = [], 0
        batch.append(line)
        count += len(line.metrics)
        place = end
    if batch:
        yield batch, place
