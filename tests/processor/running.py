"""What tests of interrupted runs share: how a run is ended anywhere, and how two runs are compared."""

import json

import numpy as np
import torch

from processor import METHODS
from processor import test as run_program
from processor.engine import loop as engine

EVERY_STEP = ("SOLVER.SAVE_EVERY_MIN", 1e-9)
OFTEN = ("MAIN.CHECKPOINT_PERIOD", 1, "MAIN.EVAL_PERIOD", 1)


def run_test(config, args):
    """Test a checkpoint of any image method."""
    run_program(config, args, method=METHODS["clipreid"])


class Killed(BaseException):
    """The end of a process; no part of the program may catch it."""


def at_call(number, act, call, chosen=lambda *args: True):
    """`call`, with `act(*args)` before its call of this number (from 1) of those that are chosen."""
    seen = 0

    def counted(*args, **options):
        nonlocal seen
        seen += chosen(*args)
        if seen == number and chosen(*args):
            act(*args)
        return call(*args, **options)

    return counted


def killed(*args):
    """End the process."""
    raise Killed


def kill_at_step(monkeypatch, number, act=killed):
    """Let a run end before its training step of this number."""
    monkeypatch.setattr(engine, "train_step", at_call(number, act, engine.train_step))


def records(folder):
    """The lines of metrics.jsonl, without the times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "time")} for line in lines]


def checkpoints(folder):
    """State dicts by file name."""
    return {path.name: torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pth"))}


def last(folder):
    """What last.pt holds, read without running code."""
    return torch.load(folder / "last.pt", weights_only=True)


def place(folder):
    """Stage, epoch and iteration in last.pt."""
    content = last(folder)
    return content["stage"], content["epoch"], content["iteration"]


def equal(one, other):
    """Whether two values are equal to the last bit, tensors and containers included."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


def assert_same_run(folder, whole):
    """Both runs left the same checkpoints and lines, and would draw the same numbers."""
    assert checkpoints(whole)
    assert equal(checkpoints(folder), checkpoints(whole))
    assert records(folder) == records(whole)
    assert equal(last(folder)["random"], last(whole)["random"])


def all_finite(content):
    """Whether each number of a nested content is finite."""
    if isinstance(content, dict):
        return all(map(all_finite, content.values()))
    if isinstance(content, (list, tuple)):
        return all(map(all_finite, content))
    if isinstance(content, torch.Tensor):
        return bool(torch.isfinite(content).all())
    return not isinstance(content, float) or bool(np.isfinite(content))
