"""The training loop: one for every method, in one process or several."""

import inspect
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from processor.engine.finite import FiniteGuard, WatchedStep, is_finite, not_finite
from processor.engine.journal import log_iteration, log_lines, save_model
from processor.engine.objective import Step, TrainingBatch
from processor.engine.pace import Pace
from processor.engine.resume import Progress, Saver, Snapshot
from processor.engine.stage import Plan, Stage
from processor.engine.trackers import Report, timed
from processor.engine.watch import Watch
from utils.device import move_module
from utils.distributed import (
    any_process,
    from_first,
    is_first,
    share_buffers,
    synchronise_batch_norms,
    world_size,
)
from utils.precision import Precision
from utils.signals import StopRequest, leave_dead_workers_to_loader

_logger = logging.getLogger("transreid.train")
Forward = Callable[[TrainingBatch], Step]


@dataclass(frozen=True)
class Run:
    """State and settings that all stages of a run share.

    Args:
        model: saved under `output_dir/{model_name}{suffix}_{epoch}.pth` as a plain state dict.
        evaluate: evaluates the model as it is.
        precision: precision of the training steps.
        saver: writes `last.pt` and holds the trackers.
        describe: writes what travels next to a checkpoint, given its path.
        keep: number of checkpoints of a stage to keep, 0 for all.
        sync_batch_norm: batch norms see the batch of all processes, on GPUs.
        stop: checked after each iteration.
        watch: warns when a stage learns nothing.
    """

    model: nn.Module
    model_name: str
    device: torch.device
    output_dir: Path
    evaluate: Callable[[], Report]
    precision: Precision
    saver: Saver
    describe: Callable[[Path], object] | None = None
    keep: int = 0
    sync_batch_norm: bool = True
    stop: StopRequest = field(default_factory=StopRequest)
    watch: Watch = field(default_factory=Watch)


class Trained(NamedTuple):
    """A finished step: the loss, its terms, and whether the loss and its gradients are finite."""

    loss: Tensor
    step: Step
    finite: Tensor


def fit(stage: Stage, run: Run, snapshot: Snapshot | None = None) -> None:
    """Train a stage to its last epoch: rate, batches, log, checkpoint, evaluation; one JSON line an epoch.

    With the snapshot of this stage it goes on from there. Checkpoints and evaluations are due at multiples of
    their periods and at the end, `last.pt` after each epoch, before an evaluation, and when its time comes.
    Raises FloatingPointError for losses or gradients that are not finite, SystemExit after SIGTERM or SIGINT.
    """
    progress = Progress(stage.name)
    if snapshot is not None and snapshot.progress is not None:
        progress = snapshot.progress
        if progress.stage != stage.name or progress.epoch > stage.plan.epochs:
            raise ValueError(
                f"{stage.name} has {stage.plan.epochs} epochs, but the run in {snapshot.path} is at "
                f"{progress}; allowed: {progress.stage} with {progress.epoch} or more"
            )
    with only_trained(stage):
        forward = prepare(stage, run.device, run.precision, sync_batch_norm=run.sync_batch_norm)
        if snapshot is not None:
            snapshot.restore_stage(stage, run.model)
        elif not run.saver.has_saved:
            # Before anything else is written: a run that is killed now finds where its metrics begin, and one
            # whose disk cannot hold the file does not train for an epoch first.
            run.saver.save(stage, progress)
        guard = FiniteGuard(run.output_dir, skips=run.precision.scaler.is_enabled(), skipped=progress.skipped)
        pace = Pace(stage.plan.epochs)
        while progress.epoch <= stage.plan.epochs:
            progress = _fit_epoch(stage, run, forward, progress, guard, pace)


def _fit_epoch(
    stage: Stage, run: Run, forward: Forward, progress: Progress, guard: FiniteGuard, pace: Pace
) -> Progress:
    """One epoch and what is due after it; returns where the next one begins."""
    plan, epoch = stage.plan, progress.epoch
    evaluates = plan.eval_period is not None and _is_due(epoch, plan.eval_period, plan)
    with run.stop.deferred():
        means = _run_epoch(stage, run, forward, progress, guard, pace)
        record = {"stage": stage.name, "epoch": epoch, **means}
        run.watch.see_epoch(stage.name, plan, stage.objective.signs(), means)
        if _is_due(epoch, plan.checkpoint_period, plan):
            path = run.output_dir / f"{run.model_name}{stage.suffix}_{epoch}.pth"
            save_model(run.model, path, keep=run.keep, describe=run.describe)
        if not evaluates:
            following = _close_epoch(stage, run, progress, record)
        else:  # which takes long, and can be repeated
            run.saver.save(stage, progress)
    if evaluates:
        _stop_if_asked(run)
        share_buffers(run.model)  # batch norms may have gone different ways
        report = run.evaluate()
        log_lines(f"Validation Results - Epoch: {epoch}", report.lines)
        run.watch.see_evaluation(stage.name, epoch, plan)
        with run.stop.deferred():
            following = _close_epoch(stage, run, progress, record | report.values)
    _stop_if_asked(run)
    return following


def _close_epoch(stage: Stage, run: Run, progress: Progress, record: dict[str, float | str]) -> Progress:
    """Record what came of an epoch, and save where the next one begins."""
    noted = timed(record)
    for tracker in run.saver.trackers:
        tracker.log(noted)
    steps = progress.steps + progress.iteration
    following = Progress(stage.name, progress.epoch + 1, skipped=progress.skipped, steps=steps)
    if progress.epoch == stage.plan.epochs:
        run.saver.finished.append(stage.name)
    run.saver.save(stage, following)
    return following


def prepare(
    stage: Stage, device: torch.device, precision: Precision, *, sync_batch_norm: bool = True
) -> Forward:
    """Bring a stage to its device, where it is captured or compiled if it is to be.

    Returns what maps a batch to a Step: the objective, or with several processes DistributedDataParallel.
    """
    objective = stage.objective
    if sync_batch_norm and world_size() > 1:
        synchronise_batch_norms(objective, device)
    move_module(objective, device)
    objective.prepare(precision)
    if stage.plan.compile:
        objective.compile()
    if world_size() == 1:
        return objective
    # Buffers are equal, or shared at the start of an epoch; older versions of torch have another name for it.
    known = inspect.signature(DistributedDataParallel).parameters
    per_step = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    devices = [device] if device.type == "cuda" else None
    options: dict[str, Any] = {per_step: False}
    return DistributedDataParallel(objective, device_ids=devices, **options)


def train_step(
    stage: Stage, batch: TrainingBatch, precision: Precision, forward: Forward | None = None
) -> Trained:
    """One step of the optimizer on a batch that is on the device, by `forward` or the stage's objective.

    Nothing is read from the device, so that the next step can be queued while this one runs.
    """
    # First of all: old gradients would take the memory that activations need.
    stage.optimizer.zero_grad(set_to_none=True)
    with precision.autocast():
        step = (forward or stage.objective)(batch)
    loss = torch.stack(list(step.losses.values())).sum()
    precision.scaler.scale(loss).backward()
    finite = is_finite(loss, stage.optimizer)
    precision.scaler.step(stage.optimizer)
    precision.scaler.update()
    stage.objective.after_step()
    return Trained(loss.detach(), step, finite)


def _run_epoch(
    stage: Stage, run: Run, forward: Forward, progress: Progress, guard: FiniteGuard, pace: Pace
) -> dict[str, float]:
    """Train the rest of an epoch; returns the last rate, the means of losses and report, the time taken."""
    stage.objective.train()
    if progress.iteration == 0:
        stage.objective.begin_epoch(progress.epoch)
    stage.sampler.set_epoch(progress.epoch, progress.iteration)
    # Sums on a GPU may differ in the last bit from process to process.
    share_buffers(stage.objective)
    meters, total = progress.meters, len(stage.loader)
    pace.start(progress, total)
    started = time.perf_counter() - progress.seconds
    rate = _rate(stage, progress.epoch, max(progress.iteration - 1, 0), total)  # of the last step done
    for batch in _batches(stage, run, progress, guard, pace):
        rate = _rate(stage, progress.epoch, progress.iteration, total)
        for group in stage.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        loss, step, finite = train_step(stage, batch.to(run.device), run.precision, forward)
        progress.iteration += 1
        terms = {f"loss_{name}": value for name, value in step.losses.items()}
        values = {"loss": loss, **terms, **step.report}
        meters.update(values, step.samples, finite)
        place = (stage.name, progress.epoch, progress.iteration)
        rates = [group["lr"] for group in stage.optimizer.param_groups]
        losses = {name: value.detach() for name, value in step.losses.items()}
        bad = guard.watch(WatchedStep(finite, *place, losses, rates, batch.paths))
        if progress.iteration % stage.plan.log_period == 0:
            log_iteration(progress.epoch, progress.iteration, total, meters.means(), rate)
            pace.log_first(stage.name, progress, total)
            _record_step(run, progress, values, rate)
        progress.seconds = time.perf_counter() - started
        bad, stop, save = any_process(bad, run.stop.signal != 0, run.saver.is_due())
        if bad:
            guard.fail()
        if stop or save:
            _save(stage, run, progress, guard)
        if stop:
            _stop(run)
    _judge(stage, run, progress, guard)
    summary = _summarise(stage, progress, total, rate)
    pace.log(stage.name, progress, progress.iteration)  # `total` may have been an estimate
    return {"lr": rate, **summary}


def _record_step(run: Run, progress: Progress, values: dict[str, Tensor], rate: float) -> None:
    """Give the trackers the losses and the report of the step just done; waits for the device."""
    numbers = torch.stack([value.detach().double() for value in values.values()]).tolist()
    place = {"stage": progress.stage, "epoch": progress.epoch, "iteration": progress.iteration}
    place["step"] = progress.steps + progress.iteration
    noted = timed({**place, "lr": rate, **dict(zip(values, numbers, strict=True))})
    for tracker in run.saver.trackers:
        tracker.log_step(noted)


def _summarise(stage: Stage, progress: Progress, total: int, rate: float) -> dict[str, float]:
    """Log the end of an epoch; returns its means, seconds and samples."""
    if not progress.iteration:
        if not stage.may_skip:
            raise ValueError(f"{stage.name}: the loader gave no batch in epoch {progress.epoch}")
        _logger.info("Epoch %d done, without a batch", progress.epoch)
        return {"samples": 0}
    meters, means = progress.meters, progress.meters.means()
    if progress.iteration < stage.plan.log_period:  # a small data set would never show its loss
        log_iteration(progress.epoch, progress.iteration, total, means, rate)
    _logger.info(
        "Epoch %d done. Time per batch: %.3f[s] Speed: %.1f[samples/s]",
        progress.epoch,
        progress.seconds / progress.iteration,
        meters.samples / progress.seconds,
    )
    return means | {"seconds": round(progress.seconds, 3), "samples": meters.samples}


def _rate(stage: Stage, epoch: int, iteration: int, total: int) -> float:
    """The scheduled rate of the step that follows `iteration` of the epoch's `total` steps."""
    return stage.plan.schedule(epoch + iteration / max(total, 1))


def _batches(
    stage: Stage, run: Run, progress: Progress, guard: FiniteGuard, pace: Pace
) -> Iterator[TrainingBatch]:
    """The loader's batches under a progress bar; when one cannot be loaded, what was trained is saved."""
    bar = tqdm(
        total=len(stage.loader),
        initial=progress.iteration,
        desc=f"{stage.name} {progress.epoch}/{stage.plan.epochs}",
        leave=False,
        disable=None if is_first() else True,
    )
    with bar:
        batches = iter(stage.loader)
        leave_dead_workers_to_loader()
        while True:
            try:
                batch = next(batches, None)
            except Exception:
                if world_size() == 1:  # others would have to be asked
                    _save(stage, run, progress, guard)
                    if run.stop.signal:  # which may have ended a worker, too
                        _stop(run)
                raise
            if batch is None:
                return
            yield batch
            bar.set_postfix_str(pace.rest(progress, len(stage.loader)), refresh=False)
            bar.update()


def _save(stage: Stage, run: Run, progress: Progress, guard: FiniteGuard) -> None:
    """Save within an epoch."""
    _judge(stage, run, progress, guard)
    run.saver.save(stage, progress)


def _judge(stage: Stage, run: Run, progress: Progress, guard: FiniteGuard) -> None:
    """Judge the last step and its weights before they are saved, so that no file holds a NaN."""
    guard.check(lambda: not_finite(run.model, stage.objective, stage.optimizer))
    progress.skipped = guard.skipped


@contextmanager
def only_trained(stage: Stage) -> Iterator[None]:
    """Disable gradients for parameters the optimizer does not own: DistributedDataParallel waits for them."""
    trained = {id(parameter) for group in stage.optimizer.param_groups for parameter in group["params"]}
    others = [p for p in stage.objective.parameters() if p.requires_grad and id(p) not in trained]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def _is_due(epoch: int, period: int, plan: Plan) -> bool:
    return epoch % period == 0 or epoch == plan.epochs


def _stop_if_asked(run: Run) -> None:
    if any_process(run.stop.signal != 0)[0]:
        _stop(run)


def _stop(run: Run) -> None:
    """End the program with the status of the signal; a process that got none itself takes SIGTERM's."""
    # When one has ended, torchrun ends the others, of which the first may still be saving.
    from_first(None)
    run.stop.signal = run.stop.signal or StopRequest.DEFAULT
    _logger.warning("stopped by %s; --resume continues the run", run.stop.name)
    raise SystemExit(run.stop.status)
