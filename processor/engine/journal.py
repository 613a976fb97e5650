"""Output of a run for people: checkpoints of the published form and lines of the log."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from torch import nn

from utils.distributed import is_first
from utils.files import save_torch

_logger = logging.getLogger("transreid.train")


def save_model(
    model: nn.Module,
    path: Path,
    *,
    keep: int = 0,
    describe: Callable[[Path], object] | None = None,
) -> None:
    """Save a model's state dict at `path`, which ends in `_{epoch}.pth`; only the first process writes.

    `describe` writes what travels with the file. With `keep`, files of earlier epochs, and the `.json` next
    to them, are removed until that many are left. Raises OSError.
    """
    if not is_first():
        return
    save_torch(model.state_dict(), path)
    if describe is not None:
        describe(path)
    _logger.info("saved %s", path)
    if not keep:
        return
    name, _, last = path.stem.rpartition("_")
    found = (re.fullmatch(rf"{re.escape(name)}_(\d+)\.pth", file.name) for file in path.parent.iterdir())
    epochs = sorted(int(match[1]) for match in found if match and int(match[1]) <= int(last))
    for old in epochs[:-keep]:
        for suffix in (".pth", ".json"):
            (path.parent / f"{name}_{old}{suffix}").unlink(missing_ok=True)


def log_iteration(epoch: int, iteration: int, total: int, means: dict[str, float], rate: float) -> None:
    """Log the published line, which log parsers read."""
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


def log_lines(title: str, lines: list[str]) -> None:
    """Log a title and the lines of a report."""
    for line in (title, *lines):
        _logger.info("%s", line)
