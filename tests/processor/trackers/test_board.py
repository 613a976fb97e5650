"""Trackers of experiments never end a run, and only the first process has them."""

import sys
from pathlib import Path

import pytest

from processor.trackers import Guarded, find_trackers
from utils.package import MissingExtra

RECORD = {"stage": "a", "epoch": 1, "time": 1.0}
CALLS = {
    "start": ({}, {}),
    "log": (RECORD,),
    "log_step": (RECORD,),
    "show": ("rankings", Path("a.png"), RECORD),
    "rewind": ({},),
    "finish": ("finished",),
}


class Board:
    """Notes its calls, and raises after them what a test gives it."""

    name = "toy"
    error = None

    def __init__(self):
        self.calls = []

    def state(self):
        return self._note("state") or {"run": "7"}

    def _note(self, name, *args):
        self.calls.append((name, *args))
        if self.error is not None:
            raise self.error

    def __getattr__(self, name):
        return lambda *args: self._note(name, *args)


def test_calls_are_passed_on():
    board = Board()
    guarded = Guarded(board)
    for name, args in CALLS.items():
        getattr(guarded, name)(*args)
    assert guarded.state() == {"run": "7"} and guarded.name == "toy"
    assert board.calls == [(name, *args) for name, args in CALLS.items()] + [("state",)]


@pytest.mark.parametrize(
    "error", [OSError("disk\nfull"), ConnectionError(), KeyError("x"), RuntimeError("y")]
)
def test_errors_are_one_warning_and_the_tracker_is_called_again(caplog, error):
    board = Board()
    board.error, guarded = error, Guarded(board)
    for name, args in CALLS.items():
        assert getattr(guarded, name)(*args) is None
    assert guarded.state() == {}
    (warning,) = caplog.records
    told = warning.getMessage()
    assert warning.levelname == "WARNING" and type(error).__name__ in told and "toy" in told
    assert "\n" not in told and len(board.calls) == len(CALLS) + 1


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_a_signal_ends_the_run_all_the_same(end):
    board = Board()
    board.error = end()
    with pytest.raises(end):
        Guarded(board).log(RECORD)


def test_only_the_first_process_has_them(monkeypatch):
    monkeypatch.setattr("processor.trackers.board.is_first", lambda: False)
    board = Board()
    guarded = Guarded(board)
    for name, args in CALLS.items():
        getattr(guarded, name)(*args)
    assert guarded.state() == {} and board.calls == []


# ---- names


def test_names_of_trackers():
    assert find_trackers("none") == []
    assert [maker.name for maker in find_trackers(" tensorboard ")] == ["tensorboard"]


@pytest.mark.parametrize(
    "names", ["", "wandb", "none,tensorboard", "tensorboard,tensorboard", "tensorboard,"]
)
def test_other_names_are_refused(names):
    with pytest.raises(ValueError, match=r"names is .*; allowed: 'none'.*'tensorboard'") as caught:
        find_trackers(names)
    assert repr(names) in str(caught.value)


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"clipreid\[tensorboard\]"):
        find_trackers("tensorboard")
