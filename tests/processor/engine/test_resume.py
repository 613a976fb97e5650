"""A run that was ended anywhere and resumed leaves what it would have left without the interruption."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from processor import make_evaluation
from processor.engine import journal as records
from processor.engine import loop as engine
from processor.engine import resume, trackers
from processor.recipes import clipreid
from tests.processor.running import (
    EVERY_STEP,
    OFTEN,
    Killed,
    assert_same_run,
    at_call,
    checkpoints,
    equal,
    kill_at_step,
    killed,
    last,
)


@pytest.fixture
def whole(trained, tmp_path):
    """whole('baseline', …) -> the folder of a run without interruption."""
    return lambda recipe, *pairs: trained(recipe, *OFTEN, *pairs, "OUTPUT_DIR", str(tmp_path / "whole"))[1]


@pytest.fixture
def interrupted(trained, monkeypatch):
    """interrupted(patch, 'baseline', …) -> the folder of a run that `patch` ended and that was resumed.

    Of several patches, each ends the run once.
    """

    def run(patches, recipe, *pairs):
        folder = None
        for number, patch in enumerate([*patches, None]):
            with monkeypatch.context() as context:
                if patch is None:
                    _, folder = trained(recipe, *OFTEN, *EVERY_STEP, *pairs, resume=number > 0)
                    break
                patch(context)
                with pytest.raises(Killed):
                    trained(recipe, *OFTEN, *EVERY_STEP, *pairs, resume=number > 0)
        return folder

    return run


def at_step(number):
    return lambda monkeypatch: kill_at_step(monkeypatch, number)


def at(module, name, number, chosen=lambda *args: True):
    return lambda patch: patch.setattr(
        module, name, at_call(number, killed, getattr(module, name), chosen=chosen)
    )


CLUSTERS = ("CLUSTER.METHOD", "dbscan", "CLUSTER.MIN_SAMPLES", 1, "CLUSTER.K1", 2, "CLUSTER.K2", 1)
CLUSTERS += ("MODEL.ID_LOSS_WEIGHT", 0.0, "MAIN.ITERS", 3)
# Four epochs of two batches; the graph is built before the second and the fourth one.
GRAPH = ("DATALOADER.SAMPLER", "graph", "DATALOADER.GRAPH_AFTER", 1, "DATALOADER.GRAPH_EVERY", 2)
GRAPH += ("MAIN.MAX_EPOCHS", 4, "MAIN.BASE_LR", 0.01, "MAIN.IMS_PER_BATCH", 6)
GRAPH += ("DATALOADER.NUM_INSTANCE", 3)  # identities have two images: it matters whose turn it is
MEANS = ("SOLVER.STAGE1.GAUSS_STD", 1.0, "SOLVER.STAGE2.GAUSS_STD", 1.0)
PROMPT_GRAPH = ("SOLVER.STAGE1.SAMPLER", "graph", "SOLVER.STAGE1.MAX_EPOCHS", 4)
PROMPT_GRAPH += ("SOLVER.STAGE1.IMS_PER_BATCH", 6, "SOLVER.STAGE1.BASE_LR", 0.5)
# Each stage has two epochs of two iterations.
MOMENTS = {
    "before the first step": [at_step(1)],
    "stage 1 within an epoch": [at_step(2)],
    "the end of stage 1": [at_step(4)],
    "the start of stage 2": [at_step(5)],
    "stage 2 within an epoch": [at_step(8)],
    "the first evaluation": [at(make_evaluation, "extract_streams", 1)],
    "the last evaluation": [at(make_evaluation, "extract_streams", 2)],
    "a checkpoint of stage 1": [at(records, "save_torch", 1)],
    "a checkpoint of stage 2": [at(records, "save_torch", 2)],
    "a line of metrics": [at(trackers, "append_line", 3)],
    "the texts of stage 2": [at(clipreid, "encode_identities", 1)],
    "many times": [at_step(2)] * 7,
    "here and there": [at_step(3), at(make_evaluation, "extract_streams", 1), at_step(1), at_step(2)],
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_two_stages(whole, interrupted, moment):
    assert_same_run(interrupted(MOMENTS[moment], "clipreid"), whole("clipreid"))


@pytest.mark.slow
def test_every_file_whose_writing_is_interrupted(trained, whole, monkeypatch, tmp_path):
    """The process ends between a file that is written beside its place and its rename."""
    reference, number = whole("clipreid"), 0
    while True:
        number += 1
        pairs = (*OFTEN, *EVERY_STEP, "OUTPUT_DIR", str(tmp_path / str(number)))
        with monkeypatch.context() as context:
            context.setattr(os, "replace", at_call(number, killed, os.replace))
            try:
                trained("clipreid", *pairs)
                break
            except Killed:
                pass
        _, folder = trained("clipreid", *pairs, resume=True)
        assert_same_run(folder, reference)
    # The configuration; iterations, start; evaluations; epochs; files and their cards; the receipt at the
    # start, after evaluations and at the end.
    assert number - 1 == 1 + 9 + 2 + 4 + 3 + 3 + 2 + (1 + 2 + 1)


@pytest.mark.parametrize(
    ("recipe", "pairs"),
    [
        ("baseline", ("MODEL.NAME", "toy-resnet")),
        ("baseline", ("MODEL.METRIC_LOSS_TYPE", "triplet_center", "MAIN.CENTER_LOSS_WEIGHT", 0.5)),
        ("baseline", ("MAIN.OPTIMIZER_NAME", "SGD", "MAIN.MOMENTUM", 0.9)),
        ("baseline", ("MAIN.OPTIMIZER_NAME", "AdamW", "DATALOADER.SAMPLER", "softmax")),
        ("baseline", ("MODEL.SIE_CAMERA", True, "SOLVER.MICRO_BATCH", 2, "DATALOADER.CACHE", True)),
        ("baseline", ("TEST.EVAL_BEFORE_TRAINING", True, "MAIN.WARMUP_ITERS", 2, "SOLVER.AMP", "bf16")),
        ("baseline", ("SOLVER.KEEP_BEST", True, "MAIN.MAX_EPOCHS", 4, "MAIN.BASE_LR", 0.02)),
        ("clipreid", ("MODEL.NAME", "toy-resnet", "SOLVER.STAGE1.HALF_FEATURES", True)),
        ("clipreid", ("MODEL.METRIC_LOSS_TYPE", "triplet_center", "DATALOADER.NUM_WORKERS", 1)),
        ("clipreid", ("MODEL.PCL_LOSS_WEIGHT", 1.0, "MODEL.MEMORY_UPDATE", "all")),
        ("pcl", ("MAIN.ITERS", 3, "MODEL.SIE_CAMERA", True)),
        ("pcl", CLUSTERS),
    ],
)
def test_other_settings(whole, interrupted, recipe, pairs):
    steps = [at_step(2), at_step(5)] if recipe == "clipreid" else [at_step(2), at_step(3)]
    assert_same_run(interrupted(steps, recipe, *pairs), whole(recipe, *pairs))


@pytest.mark.parametrize(
    ("recipe", "pairs"),
    [
        ("baseline", GRAPH),
        ("pcl", (*GRAPH, "MAIN.ITERS", 2)),
        ("clipreid", (*GRAPH, *PROMPT_GRAPH)),
        ("clipreid", (*GRAPH, *PROMPT_GRAPH, "DATALOADER.GRAPH_FEATURES", "both", *MEANS)),
    ],
)
def test_batches_from_a_graph(whole, interrupted, recipe, pairs):
    """Ended within epochs with and without a building before them, and before an epoch without one."""
    steps = [at_step(4), at_step(2), at_step(4)]
    if recipe == "clipreid":
        steps += [at_step(4), at_step(2), at_step(2)]
    assert_same_run(interrupted(steps, recipe, *pairs), whole(recipe, *pairs))


def test_centres_are_restored(trained, toy_config, monkeypatch):
    pairs, seen = ("MODEL.METRIC_LOSS_TYPE", "triplet_center", *EVERY_STEP), []
    with monkeypatch.context() as context, pytest.raises(Killed):
        kill_at_step(context, 3)
        trained("baseline", *pairs)
    folder = Path(toy_config().OUTPUT_DIR)
    saved = last(folder)["beside"]
    kill_at_step(
        monkeypatch, 1, lambda stage, *rest: seen.append(stage.objective.loss.center.centers.clone())
    )
    trained("baseline", *pairs, resume=True)
    assert equal(saved, {"loss.center.centers": seen[0]})


@pytest.mark.parametrize(("pairs", "names"), [((), set()), (CLUSTERS, {"parts.0.labels", "parts.0.summary"})])
def test_prototypes_and_clusters_are_restored(trained, toy_config, monkeypatch, pairs, names):
    pairs, seen = (*pairs, "MAIN.ITERS", 3, *EVERY_STEP), []

    def look(stage, *rest):
        held = resume._beside(stage.objective, stage.objective.objective.model)
        seen.append({name: tensor.clone() for name, tensor in held.items()})

    with monkeypatch.context() as context, pytest.raises(Killed):
        kill_at_step(context, 3)
        trained("pcl", *pairs)
    saved = last(Path(toy_config().OUTPUT_DIR))["beside"]
    assert saved.keys() == {"objective.loss.memory.prototypes", *names} and len(saved) == 1 + len(names)
    kill_at_step(monkeypatch, 1, look)
    trained("pcl", *pairs, resume=True)
    assert equal(saved, seen[0])


def test_old_checkpoints_are_removed_alike(whole, interrupted):
    pairs = ("SOLVER.KEEP", 1, "MAIN.MAX_EPOCHS", 3, "SOLVER.STAGE1.CHECKPOINT_PERIOD", 1)
    folder = interrupted([at_step(2), at_step(6)], "clipreid", *pairs)
    assert_same_run(folder, whole("clipreid", *pairs))
    assert set(checkpoints(folder)) == {"toy-vit_stage1_2.pth", "toy-vit_3.pth"}


def test_random_numbers_go_on_where_they_were(trained, monkeypatch, tmp_path):
    def drawing(seen, number=None):
        def draw(*args):
            if len(seen) + 1 == number:
                raise Killed
            seen.append((random.random(), np.random.rand(), torch.rand(1).item(), random.gauss(0, 1)))

        step = engine.train_step
        return lambda *args, **options: (draw(), step(*args, **options))[1]

    seen = []
    for name, number, again in (("whole", None, False), ("run", 6, False), ("run", None, True)):
        seen.append([])
        with monkeypatch.context() as context:
            context.setattr(engine, "train_step", drawing(seen[-1], number))
            pairs = (*EVERY_STEP, "OUTPUT_DIR", str(tmp_path / name))
            if number:
                with pytest.raises(Killed):
                    trained("clipreid", *pairs, resume=again)
            else:
                trained("clipreid", *pairs, resume=again)
    assert len(set(seen[0])) == 8 and seen[1] + seen[2] == seen[0]


def test_states_of_the_generators(tmp_path):
    random.gauss(0, 1)  # keeps a second number for the next call
    states = resume.random_states()
    torch.save(states, tmp_path / "states")

    def draw():
        return random.gauss(0, 1), random.random(), np.random.randn(3).tolist(), torch.randn(3).tolist()

    wanted = draw()
    resume.set_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert draw() == wanted
