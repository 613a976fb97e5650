"""Progress where no terminal shows a bar."""

import logging

import pytest

from utils import progress


@pytest.fixture
def clock(monkeypatch):
    """Each step takes ten seconds."""
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))


def lines(caplog, steps, **options):
    with caplog.at_level(logging.INFO, logger="transreid"):
        taken = list(progress.followed(steps, "extract", **options))
    return taken, [record.getMessage() for record in caplog.records]


def test_lines_have_what_is_done_and_the_time_left(caplog, clock):
    taken, logged = lines(caplog, list(range(5)))
    assert taken == [0, 1, 2, 3, 4]
    assert logged == [
        "extract: 2 of 5 batches, about 0:00:30 left",
        "extract: 4 of 5 batches, about 0:00:10 left",
    ]


def test_steps_without_a_length(caplog, clock):
    taken, logged = lines(caplog, iter(range(3)))
    assert taken == [0, 1, 2]
    assert logged == ["extract: 2 batches"]


def test_short_work_and_work_that_is_not_shown_log_nothing(caplog):
    assert lines(caplog, [1, 2]) == ([1, 2], [])
    assert lines(caplog, [1, 2], shown=False) == ([1, 2], [])
