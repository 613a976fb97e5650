"""TensorBoard's event files: scalars by epoch and by step, pictures, the configuration as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets import read_image
from processor.engine.trackers import Record
from processor.trackers.board import Experiment
from utils.text import printable
from utils.trackers import tracked_metrics

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """A folder of event files for each stage, `{output_dir}/{experiment}/{run}_{stage}`, by epoch.

    Steps have another axis, so they are in a folder of their own in it, `steps`. The first record that a
    writer gets says where it begins: TensorBoard hides what a former run, or epochs that are trained again,
    have left from there on. So no state is kept.
    """

    name = "tensorboard"

    def __init__(self, experiment: Experiment) -> None:
        self.folder, self.run = experiment.output_dir / experiment.name, experiment.run
        self._texts: dict[str, str] = {}
        self._writers: dict[Path, SummaryWriter] = {}

    def start(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Keep the settings and the machine, which stand in each stage's folder."""
        self._texts = {"config": _as_code(config), "environment": _as_code(environment)}

    def log(self, record: Record) -> None:
        """Write the numbers of an epoch. Raises OSError."""
        number = int(record["epoch"])
        with self._writing(self._place(record), number) as (writer, is_new):
            for name, text in self._texts.items() if is_new else ():
                writer.add_text(name, text, number, float(record["time"]))
            for name, value in tracked_metrics(record).items():
                writer.add_scalar(name, value, number, float(record["time"]))

    def log_step(self, record: Record) -> None:
        """Write the numbers of a step. Raises OSError."""
        number = int(record["step"])
        with self._writing(self._place(record) / "steps", number) as (writer, _):
            for name, value in tracked_metrics(record, step=True).items():
                writer.add_scalar(name, value, number, float(record["time"]))

    def show(self, name: str, path: Path, record: Record) -> None:
        """Write a picture. Raises OSError, or ValueError where it cannot be read."""
        pixels, number = np.asarray(read_image(str(path))), int(record["epoch"])
        with self._writing(self._place(record), number) as (writer, _):
            writer.add_image(name, pixels, number, float(record["time"]), dataformats="HWC")

    def state(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def rewind(self, state: Mapping[str, Any]) -> None:
        """Nothing: see the class."""

    def finish(self, status: str) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _place(self, record: Record) -> Path:
        return self.folder / f"{self.run}_{record['stage']}"

    @contextmanager
    def _writing(self, folder: Path, first: int) -> Iterator[tuple[SummaryWriter, bool]]:
        """The writer of a folder, and whether it is new; then what was there from `first` on is hidden.

        What was written is flushed, so that a kill loses none of it.
        """
        from torch.utils.tensorboard import SummaryWriter

        is_new = folder not in self._writers
        if is_new:
            self._writers[folder] = SummaryWriter(str(folder), purge_step=first)
        yield self._writers[folder], is_new
        self._writers[folder].flush()


def _as_code(values: Mapping[str, Any]) -> str:
    """A block of code in Markdown, in which nothing is markup."""
    return "\n".join(f"    {printable(f'{name}: {value}')}" for name, value in values.items())
