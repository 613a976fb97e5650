"""`last.pt`: all that a run needs to go on where it was, as if it had never been away."""

import itertools
import logging
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from processor.engine.objective import Objective
from processor.engine.stage import Stage
from processor.engine.trackers import Tracker
from utils.distributed import is_first
from utils.files import save_torch
from utils.meter import Meters
from utils.precision import Precision
from utils.systems import replace
from utils.text import one_line
from utils.untrusted.forms import check_form
from utils.untrusted.run_states import RunState
from utils.weights import read_checkpoint

FILE = "last.pt"
_FORMATS = (2, 3)  # that are read; the last one is written
_logger = logging.getLogger("transreid.train")


@dataclass
class Progress:
    """Where the training of a stage is.

    `epoch` (from 1) is the one in work, `iteration` the number of its batches that are done, `seconds` the
    time they took, `skipped` how many of the last ones the gradient scaler left out, `meters` their means;
    `steps` counts the batches of the stage's epochs before.
    """

    stage: str
    epoch: int = 1
    iteration: int = 0
    seconds: float = 0.0
    skipped: int = 0
    meters: Meters = field(default_factory=Meters)
    steps: int = 0

    def __str__(self) -> str:
        return f"{self.stage}, epoch {self.epoch}, iteration {self.iteration}"


@dataclass
class Snapshot:
    """The content of a `last.pt`.

    `progress` is that of the stage in work, None between two. What has been restored is dropped from `state`,
    as it takes as much memory as training.
    """

    path: Path
    state: RunState
    progress: Progress | None

    @property
    def finished(self) -> tuple[str, ...]:
        """The stages that are done."""
        return tuple(self.state.finished)

    def choose_stage(self, *, longer: bool) -> None:
        """Of a file that was written after a stage, go on with that one, which has become `longer`, or not.

        Raises ValueError where its optimizer is not in the file: earlier versions did not keep it.
        """
        state = self.state
        if not longer:
            if self.progress is None and state.optimizer is not None:  # of a stage that is over
                state.beside.clear()
                state.optimizer["state"].clear()
            return
        if state.optimizer is None:
            raise ValueError(
                f"{self.path} is of an earlier version, which did not keep the optimizer of "
                f"{state.finished[-1]} at its end; allowed with --resume: as many epochs as it has had, or "
                "another OUTPUT_DIR for a run of more epochs"
            )
        self.progress = Progress(state.finished.pop(), state.epoch, skipped=state.skipped, steps=state.steps)

    def restore_model(self, model: nn.Module) -> None:
        """Load the model's weights. Raises ValueError when they are of another architecture."""
        with self._fits("the model"):
            model.load_state_dict(self.state.model)
        self.state.model.clear()

    def restore_run(self, precision: Precision) -> None:
        """Load what all stages share: the gradient scaler and the random states; raises ValueError."""
        with self._fits("the scaler"):
            if precision.scaler.is_enabled() and self.state.scaler:
                precision.scaler.load_state_dict(dict(self.state.scaler))
        with self._fits("the generators"):
            set_random_states(self.state.random)

    def rewind(self, trackers: Iterable[Tracker]) -> None:
        """Let each tracker forget what will be trained again; those that the run did not have start fresh."""
        for tracker in trackers:
            if tracker.name in self.state.trackers:
                with self._fits(tracker.name):
                    tracker.rewind(self.state.trackers[tracker.name])

    def restore_stage(self, stage: Stage, model: nn.Module) -> None:
        """Load what the stage keeps next to the model, and its optimizer.

        Raises ValueError where something differs.
        """
        if self.state.optimizer is None:  # nothing of this stage had been saved
            return
        with self._fits(stage.name):
            _load_beside(stage.objective, model, self.state.beside)
            _load_optimizer(stage.optimizer, self.state.optimizer)
        self.state.beside.clear()
        self.state.optimizer["state"].clear()

    @contextmanager
    def _fits(self, what: str) -> Iterator[None]:
        """Errors of torch and others become one that names the file."""
        try:
            yield
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            raise ValueError(
                f"{self.path} does not fit {what} of this configuration: {one_line(error, 200)}"
            ) from error


def read_snapshot(path: Path) -> Snapshot:
    """Read `last.pt` without running code. Raises FileNotFoundError, or ValueError when it is none."""
    content = read_checkpoint(path)
    form = content.get("format") if isinstance(content, dict) else None
    if not isinstance(content, dict) or type(form) is not int or form not in _FORMATS:
        of = f"has format {form}" if type(form) is int else "is not the state of a run"
        raise ValueError(f"{path} {of}; allowed: a {FILE} of this version, format {_FORMATS[-1]}")
    state = check_form(content, RunState, f"{path}, a damaged {FILE}")
    progress = None
    if state.meters is not None:
        place = (state.stage, state.epoch, state.iteration)
        progress = Progress(*place, state.seconds, state.skipped, steps=state.steps)
        progress.meters.load_state_dict(dict(state.meters))
    return Snapshot(path, state, progress)


class Saver:
    """Writes `last.pt`.

    Args:
        output_dir: the run's folder.
        model: saved as a plain state dict under 'model', so that the file can be tested like a checkpoint.
        precision: whose gradient scaler is saved.
        about: facts about the run that the file also holds, text by name.
        trackers: their states are saved.
        every: seconds between two saves within an epoch; 0 for none.
        finished: stages that are done already.
        resumed: the file in the folder is this run's; else it is put aside before the first save.
    """

    def __init__(
        self,
        output_dir: Path,
        model: nn.Module,
        precision: Precision,
        about: Mapping[str, Any],
        *,
        trackers: Sequence[Tracker] = (),
        every: float = 0.0,
        finished: Iterable[str] = (),
        resumed: bool = False,
    ) -> None:
        self.output_dir, self.model, self.precision, self.about = output_dir, model, precision, about
        self.trackers = tuple(trackers)
        self.every = every
        self.finished = list(finished)
        self._saved_at = time.monotonic()
        self._holds: str | None = None
        self._resumed = resumed

    @property
    def has_saved(self) -> bool:
        """Whether there is a file of this run, written here or gone on from."""
        return self._holds is not None or self._resumed

    def put_former_aside(self) -> None:
        """Give the `last.pt` of a former run in the folder another name, once, before this run writes."""
        if is_first() and not self.has_saved:
            _put_aside(self.output_dir)

    def is_due(self) -> bool:
        """Whether the time between two saves is over."""
        return 0 < self.every <= time.monotonic() - self._saved_at

    def save(self, stage: Stage, progress: Progress) -> None:
        """Save where the stage is; all processes call it, and only the first one writes.

        Raises OSError that says what is kept.
        """
        self._saved_at = time.monotonic()
        in_work = progress.epoch <= stage.plan.epochs
        holds = str(progress) if in_work else f"{stage.name} finished"
        # In all processes, as each may hold a part of it; after the last epoch, too, for a run made longer.
        optimizer = stage.optimizer.state_dict()
        if not is_first():
            self._holds = holds
            return
        content = {
            "format": _FORMATS[-1],
            "finished": list(self.finished),
            "stage": "",
            "trackers": {tracker.name: tracker.state() for tracker in self.trackers},
            "model": self.model.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "random": random_states(),
            "epoch": progress.epoch,
            "steps": progress.steps,
            "skipped": progress.skipped,
            "beside": {name: t.detach() for name, t in _beside(stage.objective, self.model).items()},
            "optimizer": optimizer,
            **self.about,
        }
        if in_work:
            content |= {
                "stage": progress.stage,
                "iteration": progress.iteration,
                "seconds": progress.seconds,
                "meters": progress.meters.state_dict(),
            }
        self.put_former_aside()
        try:
            save_torch(content, self.output_dir / FILE)
        except OSError as error:
            if self._holds is None:
                raise
            kept = (self.output_dir / FILE).is_file()  # unless somebody has removed it
            rest = f", which --resume continues ({self._holds})" if kept else f"; {FILE} is gone"
            raise OSError(f"{error}{rest}") from error
        self._holds = holds
        _logger.info("saved %s (%s)", self.output_dir / FILE, holds)


def _put_aside(output_dir: Path) -> None:
    """Give a former run's `last.pt` a name that no file has yet."""
    path = output_dir / FILE
    if not path.exists():
        return
    names = (output_dir / f"last.former{n or ''}.pt" for n in itertools.count())
    aside = next(name for name in names if not name.exists())
    replace(path, aside)
    _logger.warning("%s was of a former run, which --resume would have continued; it is %s now", path, aside)


def random_states() -> dict[str, Any]:
    """The states of the generators of Python, NumPy and torch; all processes of a run have the same."""
    kind, keys, *rest = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.array(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Bring all generators to what `random_states` gave."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, words, *rest = states["numpy"]
    np.random.set_state((kind, words.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Load an optimizer's state but not its settings, which may have been changed on purpose."""
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    # Its own settings while it loads, too: by them, fused kernels get their counts of steps on the device.
    groups = [
        {**group, **own}
        for group, own in zip(saved["param_groups"], chain(settings, itertools.repeat({})), strict=False)
    ]
    optimizer.load_state_dict({**saved, "param_groups": groups})
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape != parameter.shape and name != "step":
                raise ValueError(f"{name} of a parameter {tuple(parameter.shape)} is {tuple(value.shape)}")
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # Fused kernels go by memory, whose order may differ where the file was written.
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _beside(objective: Objective, model: nn.Module) -> dict[str, Tensor]:
    """Tensors that an objective holds besides the model, by name: texts, centres, prototypes."""
    of_model = {id(tensor) for tensor in chain(model.parameters(), model.buffers())}
    held = chain(objective.named_parameters(), objective.named_buffers())
    return {name: tensor for name, tensor in held if id(tensor) not in of_model}


@torch.no_grad()
def _load_beside(objective: Objective, model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    own = _beside(objective, model)
    if own.keys() != saved.keys():
        raise ValueError(f"it holds {', '.join(saved) or 'nothing'} besides the model, not {', '.join(own)}")
    for name, tensor in own.items():
        if not tensor.numel():  # whose size an epoch decides
            tensor.resize_(saved[name].shape)
        if tensor.shape != saved[name].shape:
            raise ValueError(f"{name} has the shape {tuple(saved[name].shape)}, not {tuple(tensor.shape)}")
        tensor.copy_(saved[name])
