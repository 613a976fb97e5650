"""One warning when a stage learns nothing."""

import logging
from dataclasses import replace

import pytest

from processor.engine.loop import fit
from processor.engine.signs import at, at_chance
from processor.engine.watch import Watch
from solver.schedules import multistep_schedule
from tests.processor.recorder import batches, recorded_stage

MARGIN = at(
    "loss_triplet",
    0.9,
    "the triplet loss has been at its margin ({value:.3f})",
    unless=lambda means: means["acc"] > 0.2,
)
CHANCE = at_chance("acc", 10, "accuracy has been at chance ({value:.0%} for 10 identities)")


@pytest.fixture
def plan(tmp_path):
    """plan(epochs) -> a plan."""
    stage, _, _ = recorded_stage(tmp_path)
    return lambda epochs: replace(stage.plan, epochs=epochs)


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, "transreid")
    return lambda: [record.getMessage() for record in caplog.records]


def means(triplet=0.9, acc=0.1, samples=900):
    return {"loss_triplet": triplet, "acc": acc, "samples": samples}


def test_a_triplet_loss_at_its_margin(plan, warnings):
    watch = Watch(reasons=["too fast", "no labels"])
    for _ in range(4):
        watch.see_epoch("stage2", plan(20), [MARGIN], means(0.902))
    assert not warnings()
    for _ in range(3):
        watch.see_epoch("stage2", plan(20), [MARGIN], means(0.899))
    assert warnings() == [
        "stage2 seems to learn nothing: the triplet loss has been at its margin (0.899) for 5 epochs; most "
        "often the reason is one of: too fast; no labels"
    ]


def test_epochs_in_a_row_count_and_more_of_a_long_stage(plan, warnings):
    watch = Watch()
    for epoch in range(1, 30):
        watch.see_epoch("stage2", plan(60), [MARGIN], means(0.5 if epoch % 6 == 0 else 0.9))
    for _ in range(9):
        watch.see_epoch("baseline", plan(60), [MARGIN], means())
    assert not warnings()
    watch.see_epoch("baseline", plan(60), [MARGIN], means())
    assert len(warnings()) == 1


@pytest.mark.parametrize(
    ("acc", "samples", "told"), [(0.1, 900, True), (0.125, 900, True), (0.14, 900, False)]
)
def test_accuracy_at_chance(plan, warnings, acc, samples, told):
    watch = Watch()
    for _ in range(5):
        watch.see_epoch("stage2", plan(5), [MARGIN, CHANCE], means(0.4, acc))
    assert len(warnings()) == told


def test_one_process_warns(plan, warnings, monkeypatch):
    monkeypatch.setattr("processor.engine.watch.is_first", lambda: False)
    watch = Watch(lambda: "poor")
    for _ in range(9):
        watch.see_epoch("stage2", plan(9), [MARGIN], means())
    watch.see_evaluation("stage2", 9, plan(9))
    assert not warnings()


@pytest.mark.parametrize("given", [{}, {"samples": 0}, {"loss_triplet": float("nan"), "samples": 8}])
def test_epochs_without_numbers_are_no_sign(plan, warnings, given):
    watch = Watch()
    for _ in range(9):
        watch.see_epoch("pcl", plan(20), [MARGIN, CHANCE], given)
    assert not warnings()


def test_a_loss_near_its_margin_while_accuracy_rises_is_no_sign(plan, warnings):
    watch = Watch()
    for _ in range(9):
        watch.see_epoch("stage2", plan(20), [MARGIN], means(0.9, acc=0.6))
        watch.see_epoch("baseline", plan(20), [MARGIN], means(0.91))
    assert not warnings()


def test_evaluations_count_from_the_middle_on(plan, warnings):
    watch = Watch(lambda: "mAP is 3.0 %, below a histogram")
    watch.see_evaluation("stage2", 29, plan(60))
    assert not warnings()
    watch.see_evaluation("stage2", 30, plan(60))
    watch.see_evaluation("stage2", 60, plan(60))
    assert warnings() == ["stage2 seems to learn nothing: mAP is 3.0 %, below a histogram"]


def test_a_good_evaluation_is_no_sign(plan, warnings):
    Watch(lambda: "").see_evaluation("stage2", 60, plan(60))
    assert not warnings()


def test_the_loop_asks(tmp_path, warnings):
    still = multistep_schedule(0.0, steps=[], gamma=1, warmup_epochs=0, warmup_factor=1)
    stage, run, _ = recorded_stage(tmp_path, batches(3), epochs=6, eval_period=6, schedule=still)
    stage.objective.signs = lambda: [at("loss_square", 9.0, "the square stays ({value:g})")]
    fit(stage, replace(run, watch=Watch(lambda: "poor")))
    assert warnings() == [f"{stage.name} seems to learn nothing: the square stays (9) for 5 epochs"]
