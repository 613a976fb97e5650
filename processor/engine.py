"""The training loop: one for every method."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from processor.objective import Step, TrainingBatch
from processor.stage import Stage
from retrieval import RetrievalMetrics, log_metrics, metrics_record
from utils.device import move_module
from utils.files import write_atomically
from utils.meter import Meters
from utils.precision import Precision

_logger = logging.getLogger("transreid.train")


@dataclass(frozen=True)
class Run:
    """What all stages of a run share.

    Args:
        model: saved under `output_dir/{model_name}{suffix}_{epoch}.pth` as a plain state dict.
        evaluate: retrieval metrics of the model as it is.
        precision: of the training steps.
    """

    model: nn.Module
    model_name: str
    device: torch.device
    output_dir: Path
    evaluate: Callable[[], RetrievalMetrics]
    precision: Precision


def fit(stage: Stage, run: Run) -> None:
    """Train a stage to its last epoch: rate, batches, log, checkpoint, evaluation; one JSON line an epoch.

    Checkpoints and evaluations are due at multiples of their periods and at the end.
    """
    plan = stage.plan
    prepare(stage, run.device, run.precision)
    for epoch in range(1, plan.epochs + 1):
        rate = plan.schedule(epoch)
        for group in stage.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        record = {
            "stage": stage.name,
            "epoch": epoch,
            "lr": rate,
            **_run_epoch(stage, run, epoch, rate),
        }
        if _is_due(epoch, plan.checkpoint_period, plan.epochs):
            save_model(run, f"{run.model_name}{stage.suffix}_{epoch}.pth")
        if plan.eval_period is not None and _is_due(epoch, plan.eval_period, plan.epochs):
            metrics = run.evaluate()
            log_metrics(metrics, f"Validation Results - Epoch: {epoch}")
            record |= metrics_record(metrics)
        append_record(run, record)


def prepare(stage: Stage, device: torch.device, precision: Precision) -> None:
    """Bring a stage to its device, where it is captured or compiled if it is to be."""
    move_module(stage.objective, device)
    stage.objective.prepare(precision)
    if stage.plan.compile:
        stage.objective.compile()


def train_step(stage: Stage, batch: TrainingBatch, precision: Precision) -> tuple[torch.Tensor, Step]:
    """One step of the optimizer on a batch that is on the device; returns the loss and what it is made of.

    Nothing is read from the device, so that the next step can be queued while this one runs.
    """
    # First of all: old gradients would take the memory that activations need.
    stage.optimizer.zero_grad(set_to_none=True)
    with precision.autocast():
        step = stage.objective(batch)
    loss = torch.stack(list(step.losses.values())).sum()
    precision.scaler.scale(loss).backward()
    precision.scaler.step(stage.optimizer)
    precision.scaler.update()
    stage.objective.after_step()
    return loss.detach(), step


def _run_epoch(stage: Stage, run: Run, epoch: int, rate: float) -> dict[str, float]:
    """One pass over the loader; returns the means of losses and report with the time taken."""
    stage.objective.train()
    stage.objective.begin_epoch(epoch)
    stage.sampler.set_epoch(epoch)
    meters = Meters()
    started = time.perf_counter()
    iterations = 0
    bar = tqdm(stage.loader, desc=f"{stage.name} {epoch}/{stage.plan.epochs}", leave=False, disable=None)
    for iterations, batch in enumerate(bar, start=1):
        loss, step = train_step(stage, batch.to(run.device), run.precision)
        terms = {f"loss_{name}": value for name, value in step.losses.items()}
        meters.update({"loss": loss, **terms, **step.report}, len(batch.pids))
        if iterations % stage.plan.log_period == 0:
            _log_iteration(epoch, iterations, len(stage.loader), meters.means(), rate)
    if not iterations:
        raise ValueError(f"{stage.name}: the loader gave no batch in epoch {epoch}")
    means = meters.means()
    if iterations < stage.plan.log_period:  # a small data set would never show its loss
        _log_iteration(epoch, iterations, len(stage.loader), means, rate)
    seconds = time.perf_counter() - started
    _logger.info(
        "Epoch %d done. Time per batch: %.3f[s] Speed: %.1f[samples/s]",
        epoch,
        seconds / iterations,
        meters.samples / seconds,
    )
    return means | {"seconds": round(seconds, 3), "samples": meters.samples}


def _log_iteration(epoch: int, iteration: int, total: int, means: dict[str, float], rate: float) -> None:
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


def _is_due(epoch: int, period: int, last: int) -> bool:
    return epoch % period == 0 or epoch == last


def save_model(run: Run, file_name: str) -> None:
    """Save the model's state dict under a published name in the output folder."""
    path = run.output_dir / file_name
    write_atomically(path, lambda beside: torch.save(run.model.state_dict(), beside))
    _logger.info("saved %s", path)


def append_record(run: Run, record: dict[str, float | int | str]) -> None:
    """Add one line to `metrics.jsonl` in the output folder."""
    with open(run.output_dir / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
