"""A stage of one weight and one bias, whose numbers can be worked out by hand."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from processor.engine.loop import Run
from processor.engine.objective import Objective, Step
from processor.engine.resume import Saver
from processor.engine.stage import Plan, Stage
from processor.engine.trackers import JsonLines, Report
from retrieval import RetrievalMetrics, metrics_lines, metrics_record
from utils.precision import Precision

METRICS = RetrievalMetrics(np.array([0.5, 0.75, 0.8, 0.9, 0.954]), mAP=0.8964, mINP=0.25, num_valid=7)


class Numbers(NamedTuple):
    values: Tensor
    pids: Tensor
    paths: tuple[str, ...]

    def to(self, device):
        return self


class Recorder(Objective):
    """Minimises (w - value)² and value · bias, and notes what the loop does to it."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))
        self.events = []

    def begin_epoch(self, epoch):
        self.events.append(f"begin {epoch}")

    def after_step(self):
        self.events.append("stepped")

    def forward(self, batch):
        assert self.training and torch.is_grad_enabled()
        self.events.append(f"{batch.values.mean():g}")
        value = batch.values.mean()
        losses = {"square": (self.weight - value) ** 2, "linear": value * self.bias}
        return Step(losses, {"acc": value.detach() / 10}, len(batch.pids))


class Loader(list):
    """Batches that note which epoch they were drawn for."""

    start = 0

    def set_epoch(self, epoch, start=0):
        self.events.append(f"sampler {epoch}" + (f" from {start}" if start else ""))
        self.start = start

    def __iter__(self):
        return iter(self[self.start :])


def batches(*values, size=4):
    """A batch for each value, whose images are named after it."""
    return Loader(
        Numbers(
            torch.full((size,), float(value)),
            torch.zeros(size),
            tuple(f"{value}_{index}.jpg" for index in range(size)),
        )
        for value in values
    )


def recorded_stage(
    folder,
    loader=None,
    suffix="",
    schedule=lambda progress: 0.1 / int(progress),
    precision=None,
    every=0.0,
    **plan,
):
    """(stage, run, what happens): a stage over a Recorder."""
    objective = Recorder()
    loader = batches(1, 2) if loader is None else loader
    loader.events = objective.events
    groups = [
        {"params": [objective.weight], "lr": 0.0, "lr_scale": 1.0},
        {"params": [objective.bias], "lr": 0.0, "lr_scale": 2.0},
    ]
    options = {"epochs": 2, "batch_size": 4, "log_period": 1, "checkpoint_period": 10} | plan
    plan = Plan(schedule=schedule, make_optimizer=torch.optim.SGD, **options)
    optimizer = torch.optim.SGD(groups, lr=0.0)
    stage = Stage("toy", objective, loader, loader, optimizer, plan, suffix=suffix)
    evaluations = []

    def evaluate():
        evaluations.append(len(objective.events))
        objective.eval()  # as extraction leaves a model
        return Report(metrics_record(METRICS), metrics_lines(METRICS))

    precision = precision or Precision("cpu")
    saver = Saver(folder, objective, precision, {}, trackers=[JsonLines(folder)], every=every)
    run = Run(objective, "ViT-B-16", torch.device("cpu"), folder, evaluate, precision, saver)
    return stage, run, SimpleNamespace(events=objective.events, evaluations=evaluations)
