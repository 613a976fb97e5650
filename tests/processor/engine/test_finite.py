"""Losses and gradients that are not finite: what is said, what is kept, and which steps a scaler may skip."""

import json
import math
from pathlib import Path

import pytest
import torch

from processor.engine import finite
from processor.engine.finite import MOST_SKIPS, FiniteGuard, WatchedStep, is_finite, not_finite
from processor.engine.loop import fit
from processor.engine.resume import read_snapshot
from processor.recipes.image_objective import ImageObjective
from processor.recipes.prompt_stage import PromptObjective
from tests.processor.recorder import batches, recorded_stage
from tests.processor.running import (
    EVERY_STEP,
    all_finite,
    assert_same_run,
    checkpoints,
    kill_at_step,
    last,
    place,
    records,
)
from utils.precision import Precision

OBJECTIVES = {"stage1": PromptObjective, "stage2": ImageObjective, "baseline": ImageObjective}
CENTRES = ("MODEL.METRIC_LOSS_TYPE", "triplet_center")


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def strict_json(path):
    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture
def spoil(monkeypatch):
    """spoil(ImageObjective, 'id', nan, 3) -> the batches so far; this loss of the third is not a number."""

    def patch(objective, name, value, number):
        seen, forward = [], objective.forward

        def spoiled(self, batch):
            seen.append(batch)
            step = forward(self, batch)
            if len(seen) == number:
                step.losses[name] = step.losses[name] * value
            return step

        monkeypatch.setattr(objective, "forward", spoiled)
        return seen

    return patch


def failing(trained, recipe, *pairs):
    """The message of a run that ends with a bad number, which is one line."""
    with pytest.raises(FloatingPointError) as caught:
        trained(recipe, *pairs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def folder_of(toy_config):
    return Path(toy_config().OUTPUT_DIR)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("stage", "names", "bad"),
    [
        ("stage1", ("i2t", "t2i"), "i2t"),
        ("stage1", ("i2t", "t2i"), "t2i"),
        ("stage2", ("id", "triplet", "i2t"), "id"),
        ("stage2", ("id", "triplet", "i2t"), "triplet"),
        ("stage2", ("id", "triplet", "i2t"), "i2t"),
        ("baseline", ("id", "triplet", "center"), "center"),
    ],
)
def test_a_bad_loss_ends_the_run(trained, toy_config, spoil, stage, names, bad, value):
    """At the first iteration of the second epoch; the loop sees it one iteration later."""
    seen = spoil(OBJECTIVES[stage], bad, value, 3)
    recipe, pairs = ("baseline", CENTRES) if stage == "baseline" else ("clipreid", ())
    told = failing(trained, recipe, *EVERY_STEP, *pairs)
    folder = folder_of(toy_config)
    assert told.startswith(f"{stage}, epoch 2, iteration 1: loss or gradient is not finite (losses: ")
    values = dict(part.split(" ") for part in told.split("losses: ")[1].split(";")[0].split(", "))
    assert tuple(values) == names
    assert {name for name in names if not math.isfinite(float(values[name]))} == {bad}
    assert f"the images of the step are in {folder / 'bad_step.json'}" in told

    written = strict_json(folder / "bad_step.json")
    assert (written["stage"], written["epoch"], written["iteration"]) == (stage, 2, 1)
    assert tuple(written["losses"]) == names and isinstance(written["losses"][bad], str)
    assert written["losses"][bad].strip("-") in ("nan", "inf")
    assert written["paths"] == list(dict.fromkeys(seen[2].paths)) and len(written["paths"]) > 1
    assert all(Path(path).is_file() for path in written["paths"])
    rates = ", ".join(f"{rate:.3g}" for rate in written["learning_rates"])
    assert f"learning rates: {rates}" in told and all(rate > 0 for rate in written["learning_rates"])

    # What is saved is from before that step.
    assert place(folder) == (stage, 2, 0) and all_finite(last(folder))
    assert [(line["stage"], line["epoch"]) for line in records(folder)][-1] == (stage, 1)


@pytest.mark.parametrize("number", [5, 6, 7, 8])
def test_a_bad_gradient_alone_ends_the_run(trained, toy_config, monkeypatch, number):
    """Also at the last step of an epoch and of the run."""

    def hook(stage, *rest):
        weight = stage.objective.model.classifier.weight
        handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * math.nan)[1])

    kill_at_step(monkeypatch, number, hook)
    told = failing(trained, "clipreid", *EVERY_STEP)
    folder, (epoch, iteration) = folder_of(toy_config), divmod(number - 5, 2)
    assert told.startswith(f"stage2, epoch {epoch + 1}, iteration {iteration + 1}: loss or gradient is not")
    assert all(isinstance(loss, float) for loss in strict_json(folder / "bad_step.json")["losses"].values())
    assert all_finite(last(folder))
    before = ("stage2", epoch + 1, iteration) if number > 5 else ("", 3, None)
    content = last(folder)
    assert (content["stage"], content.get("epoch"), content.get("iteration")) == before
    assert not list(folder.glob("toy-vit_2.pth"))


@pytest.mark.parametrize(("stage", "number", "saved"), [("stage1", 2, 1), ("stage1", 4, 2), ("stage2", 8, 2)])
@pytest.mark.parametrize("within", [True, False], ids=["saved within the epoch", "saved at its end"])
@pytest.mark.parametrize("rate", [3e38, 1e20], ids=["infinite", "finite, but not its square"])
def test_weights_that_overflow_in_the_last_step_before_a_save(
    trained, toy_config, monkeypatch, stage, number, saved, within, rate
):
    """The loss and the gradients of that step were finite."""

    def hook(stage, *rest):
        for group in stage.optimizer.param_groups:
            group["lr"] = rate  # of which Adam makes 3e38 / 0.1 in a first step

    kill_at_step(monkeypatch, number, hook)
    often = EVERY_STEP if within else ("SOLVER.SAVE_EVERY_MIN", 0)
    told = failing(
        trained, "clipreid", *often, "MAIN.CHECKPOINT_PERIOD", 1, "SOLVER.STAGE1.CHECKPOINT_PERIOD", 1
    )
    folder = folder_of(toy_config)
    assert told.startswith(f"{stage}, epoch {saved}, iteration 2: after the step ")
    assert f"{rate:.3g}" in told and "nan" not in told
    written = strict_json(folder / "bad_step.json")
    assert written["not_finite_after_step"][0] in told and written["paths"]
    assert all(isinstance(loss, float) for loss in written["losses"].values())
    assert place(folder) == (stage, saved, 1 if within else 0) and all_finite(last(folder))
    assert all(all_finite(content) for content in checkpoints(folder).values())
    assert f"toy-vit_{'stage1_' if stage == 'stage1' else ''}{saved}.pth" not in checkpoints(folder)


def test_moments_that_overflow_are_found():
    """Adam's second moment is a square: such a weight would never move again, without a word."""
    model = torch.nn.Linear(1, 1)
    objective = torch.nn.ModuleDict({"model": model, "texts": torch.nn.Linear(1, 1)})
    model.register_buffer("mask", torch.tensor([-math.inf]), persistent=False)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1.0)
    for parameter in objective.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.bias.grad.fill_(1e30)
    objective["texts"].bias.grad.fill_(math.nan)
    optimizer.step()
    names = {"texts.bias", "exp_avg_sq of bias", "exp_avg of texts.bias", "exp_avg_sq of texts.bias"}
    assert set(not_finite(model, objective, optimizer)) == names


def test_what_other_processes_found_is_named(monkeypatch, tmp_path):
    """Each may hold the moments of other weights."""
    monkeypatch.setattr(finite, "gather_objects", lambda value: [value, ["exp_avg of theirs"]])
    monkeypatch.setattr(finite, "any_process", lambda *flags: [True])
    guard = FiniteGuard(tmp_path, skips=False)
    guard.watch(WatchedStep(torch.tensor(True), "toy", 1, 1, {}, [0.1], []))
    with pytest.raises(FloatingPointError, match="exp_avg of theirs"):
        guard.check(list)
    assert strict_json(tmp_path / "bad_step.json")["not_finite_after_step"] == ["exp_avg of theirs"]


def test_an_error_stays_when_its_report_cannot_be_written(trained, toy_config, spoil):
    (folder_of(toy_config) / "bad_step.json").mkdir(parents=True)
    spoil(ImageObjective, "id", math.nan, 2)
    told = failing(trained, "baseline")
    assert "loss or gradient is not finite" in told and "bad_step.json is a folder" in told


def test_the_run_can_be_resumed(trained, monkeypatch, spoil, tmp_path):
    """The cause may be gone, e.g. a smaller rate or another precision."""
    _, whole = trained("clipreid", "OUTPUT_DIR", str(tmp_path / "whole"))
    spoil(ImageObjective, "id", math.nan, 2)
    failing(trained, "clipreid", *EVERY_STEP)
    monkeypatch.undo()
    _, folder = trained("clipreid", *EVERY_STEP, resume=True)
    assert_same_run(folder, whole)


def test_without_saves_within_epochs_that_of_the_epoch_before_stays(trained, toy_config, spoil):
    spoil(ImageObjective, "id", math.inf, 4)
    failing(trained, "baseline", "SOLVER.SAVE_EVERY_MIN", 0)
    folder = folder_of(toy_config)
    assert place(folder) == ("baseline", 2, 0) and all_finite(last(folder))


def test_what_counts_as_finite():
    weight = torch.nn.Parameter(torch.zeros(3))
    unused = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight, unused], lr=1.0)
    one = torch.tensor(1.0)
    for gradient, wanted in (([1e38, 3e38, 0], True), ([math.nan, 0, 0], False), ([0, -math.inf, 0], False)):
        weight.grad = torch.tensor(gradient, dtype=torch.float32)
        assert is_finite(one, optimizer).item() == wanted
    weight.grad = torch.tensor([60000.0, 0, 0], dtype=torch.float32)
    assert is_finite(one.half(), optimizer) and not is_finite(one * math.nan, optimizer)
    weight.grad = None
    assert is_finite(one, optimizer)


# ---- a gradient scaler

BAD = math.inf


@pytest.fixture
def scaled(tmp_path):
    """scaled([1, BAD], …) -> (stage, run, what happens) in float32 with a gradient scaler."""

    def build(values, **options):
        precision = Precision("cpu")
        precision.__dict__["scaler"] = torch.amp.GradScaler("cpu", enabled=True)
        options = {"epochs": 1, "schedule": lambda epoch: 0.1, "log_period": 1000} | options
        return recorded_stage(tmp_path, batches(*values), precision=precision, **options)

    return build


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_steps_that_the_scaler_skips_leave_no_trace(scaled, tmp_path, caplog):
    stage, run, _ = scaled([1, *[BAD] * MOST_SKIPS, 3])
    fit(stage, run)
    (line,) = records(tmp_path)
    (tmp_path / "plain").mkdir()
    plain, other, _ = recorded_stage(
        tmp_path / "plain", batches(1, 3), epochs=1, schedule=lambda epoch: 0.1, log_period=1000
    )
    fit(plain, other)
    (wanted,) = records(tmp_path / "plain")
    assert stage.objective.state_dict() == plain.objective.state_dict()
    assert line == wanted | {"samples": 4 * (MOST_SKIPS + 2)}
    told = warnings(caplog)
    assert len(told) == MOST_SKIPS and all("the scaler leaves the step out" in each for each in told)
    assert told[0].startswith("toy, epoch 1, iteration 2: loss or gradient is not finite")
    assert told[-1].endswith(f"({MOST_SKIPS} of {MOST_SKIPS} in a row)")
    assert run.precision.scaler.get_scale() == 2.0 ** (16 - MOST_SKIPS)


def test_one_skip_more_ends_the_run(scaled, tmp_path):
    stage, run, _ = scaled([1, *[BAD] * (MOST_SKIPS + 1), 3], every=1e-9)
    with pytest.raises(FloatingPointError, match=f"iteration {MOST_SKIPS + 2}: .* after {MOST_SKIPS} steps"):
        fit(stage, run)
    assert strict_json(tmp_path / "bad_step.json")["paths"] == [f"inf_{index}.jpg" for index in range(4)]
    assert place(tmp_path) == ("toy", 1, MOST_SKIPS + 1)
    assert all_finite(last(tmp_path)["model"])


@pytest.mark.parametrize("every", [0.0, 1e-9])
def test_a_good_step_begins_a_new_count(scaled, tmp_path, every):
    """However often last.pt is saved, when the guard is asked in between."""
    stage, run, _ = scaled([*[BAD] * MOST_SKIPS, 1, *[BAD] * MOST_SKIPS, 1], every=every)
    fit(stage, run)
    assert math.isfinite(records(tmp_path)[0]["loss"])


def test_the_count_does_not_end_with_an_epoch_that_ends_in_skips(scaled, tmp_path):
    stage, run, _ = scaled([1, *[BAD] * MOST_SKIPS], epochs=2)
    fit(stage, run)
    assert [line["epoch"] for line in records(tmp_path)] == [1, 2]


def test_the_scale_is_resumed(scaled, tmp_path):
    stage, run, _ = scaled([1, BAD, BAD, BAD, 2], every=1e-9)
    snapshots, save = [], run.saver.save
    run.saver.save = lambda *args: (save(*args), snapshots.append(read_snapshot(tmp_path / "last.pt")))
    fit(stage, run)
    wanted = stage.objective.state_dict()
    again, other, _ = scaled([1, BAD, BAD, BAD, 2])
    snapshots[3].restore_model(again.objective)
    assert other.precision.scaler.get_scale() == 2.0**16
    snapshots[3].restore_run(other.precision)
    fit(again, other, snapshots[3])
    assert other.precision.scaler.get_scale() == run.precision.scaler.get_scale() == 2.0**13
    assert again.objective.state_dict() == wanted
