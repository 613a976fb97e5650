"""How far a stage is, and how long the rest takes."""

import logging

import pytest

from processor.engine import pace as module
from processor.engine.loop import fit
from processor.engine.pace import Pace
from processor.engine.resume import Progress
from tests.processor.recorder import batches, recorded_stage


@pytest.fixture
def clock(monkeypatch):
    """clock.now is what the clock shows."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    return Clock


def test_the_rest_is_as_fast_as_what_was_done(clock):
    pace, progress = Pace(6), Progress("stage2")
    pace.start(progress, 10)
    assert pace.left(progress, 10) is None and pace.rest(progress, 10) == ""
    clock.now += 30
    progress.iteration = 5  # a half of the first of six epochs
    assert pace.left(progress, 10) == pytest.approx(5.5 * 60)
    assert pace.rest(progress, 10) == "about 0:05:30 left"
    clock.now += 3700
    assert pace.left(Progress("stage2", 3), 10) == pytest.approx(4 * 3730 / 2)


def test_a_resumed_stage_counts_from_where_it_goes_on(clock):
    pace = Pace(4)
    pace.start(Progress("stage2", 2, iteration=5), 10)
    pace.start(Progress("stage2", 3), 10)  # of the next epoch: it began before
    clock.now += 50
    assert pace.left(Progress("stage2", 3), 10) == pytest.approx(2 * 50 / 0.5)


def test_an_epoch_without_a_batch(clock):
    pace = Pace(4)
    pace.start(Progress("pcl"), 0)
    clock.now += 5
    assert pace.left(Progress("pcl"), 0) is None


def lines_of(stage, run, caplog, clock):
    """The lines on how far a stage is, of which each step takes ten seconds."""
    step = stage.objective.after_step

    def slow():
        clock.now += 10
        step()

    stage.objective.after_step = slow
    caplog.set_level(logging.INFO, "transreid")
    fit(stage, run)
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith(f"{stage.name}: epoch")]


def test_lines_of_a_stage(tmp_path, caplog, clock):
    stage, run, _ = recorded_stage(tmp_path, batches(1, 2, 3, 4), epochs=3, log_period=2)
    assert lines_of(stage, run, caplog, clock) == [
        f"{stage.name}: epoch 1/3, about 0:01:40 left",  # early, once
        f"{stage.name}: epoch 1/3, about 0:01:20 left",
        f"{stage.name}: epoch 2/3, about 0:00:40 left",
    ]


def test_epochs_shorter_than_the_loader_says(tmp_path, caplog, clock):
    class Estimated(type(batches())):
        def __len__(self):
            return super().__len__() + 1

    stage, run, _ = recorded_stage(tmp_path, Estimated(batches(1, 2)), epochs=2)
    assert lines_of(stage, run, caplog, clock) == [f"{stage.name}: epoch 1/2, about 0:00:20 left"]
