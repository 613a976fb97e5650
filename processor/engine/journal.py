"""What a run leaves to read: checkpoints of the published form, lines of metrics, lines of the log."""

import json
import logging
import math
import re
from pathlib import Path

from torch import nn

from processor.engine.resume import METRICS_FILE
from utils.distributed import is_first
from utils.files import append_line, save_torch

_logger = logging.getLogger("transreid.train")


def save_model(model: nn.Module, output_dir: Path, name: str, epoch: int, keep: int = 0) -> None:
    """Save a model's state dict as `{name}_{epoch}.pth`; only the first process writes.

    With `keep`, files of earlier epochs are removed until that many are left. Raises OSError.
    """
    if not is_first():
        return
    path = output_dir / f"{name}_{epoch}.pth"
    save_torch(model.state_dict(), path)
    _logger.info("saved %s", path)
    if not keep:
        return
    found = (re.fullmatch(rf"{re.escape(name)}_(\d+)\.pth", file.name) for file in output_dir.iterdir())
    epochs = sorted(int(match[1]) for match in found if match and int(match[1]) <= epoch)
    for old in epochs[:-keep]:
        (output_dir / f"{name}_{old}.pth").unlink()


def append_record(output_dir: Path, record: dict[str, float | int | str]) -> None:
    """Add one line to `metrics.jsonl` in the output folder; only the first process writes. Raises OSError.

    Means of nothing, which are NaN, are left out: JSON has no word for them.
    """
    if is_first():
        told = {n: value for n, value in record.items() if isinstance(value, str) or math.isfinite(value)}
        append_line(output_dir / METRICS_FILE, json.dumps(told))


def cut_records(output_dir: Path, size: int) -> None:
    """Forget the lines of `metrics.jsonl` behind its first `size` bytes: what will be trained again."""
    path = output_dir / METRICS_FILE
    if path.exists() and path.stat().st_size > size:
        with open(path, "r+b") as file:
            file.truncate(size)


def log_iteration(epoch: int, iteration: int, total: int, means: dict[str, float], rate: float) -> None:
    """The published line, which log parsers read."""
    accuracy = f" Acc: {means['acc']:.3f}," if "acc" in means else ""
    _logger.info(
        "Epoch[%d] Iteration[%d/%d] Loss: %.3f,%s Base Lr: %.2e",
        epoch,
        iteration,
        total,
        means["loss"],
        accuracy,
        rate,
    )
