"""From the configuration to a training run, new or continued: what the training programs do."""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from yacs.config import CfgNode

from config.check import check_training
from config.errors import as_keys
from config.resume import require_same_run
from datasets import ImageRecord, Loaders, ReIDDataset, make_dataloader, make_dataset, verify_images
from model import ReIDModel, load_stage1, make_model, model_label
from processor.engine.journal import append_record, cut_records
from processor.engine.loop import Run, fit
from processor.engine.resume import FILE, Saver, Snapshot, read_snapshot
from processor.evaluation.extract import extract, make_task, require_matches
from processor.make_recipes import RECIPES
from processor.make_test import evaluate_as_configured, start_log, start_process, test_precision
from retrieval import RetrievalMetrics, log_metrics, metrics_record
from utils.distributed import (
    any_process,
    from_first,
    is_first,
    launch_name,
    launched_processes,
    process_group,
    restarts,
    share,
)
from utils.environment import describe_environment
from utils.files import make_output_dir, write_atomically
from utils.precision import training_precision
from utils.seed import seed_everything
from utils.signals import StopRequest

_logger = logging.getLogger("transreid")


def train(cfg: CfgNode, args: argparse.Namespace, *, recipe: str) -> None:
    """Train by a recipe; OUTPUT_DIR gets checkpoints, `last.pt`, `train_log.txt`, `config.yml` and
    `metrics.jsonl`.

    With `args.resume`, and where torchrun starts a failed run anew, it goes on where `last.pt` says, if there
    is one. Everything that can be wrong with configuration, data, weights and output folder is found before
    training.
    """
    check_training(cfg)
    device = start_process(cfg)
    # torchrun passes a signal on that its processes may have got already, as members of a group.
    patience = 10.0 if launched_processes() > 1 else 0.0
    with StopRequest(patience).listening() as stop, process_group(device):
        output_dir = Path(cfg.OUTPUT_DIR)
        if is_first():
            with as_keys({"path": "OUTPUT_DIR"}):
                make_output_dir(output_dir)
        from_first(None)  # the others wait for the folder
        start_log(cfg, args, output_dir, "train_log.txt")
        snapshot = _find_snapshot(cfg, output_dir, resume=args.resume)
        _train(cfg, recipe, device, output_dir, snapshot, stop)


def _train(
    cfg: CfgNode,
    recipe: str,
    device: torch.device,
    output_dir: Path,
    snapshot: Snapshot | None,
    stop: StopRequest,
) -> None:
    seed_everything(cfg.SOLVER.SEED, deterministic=cfg.SOLVER.DETERMINISTIC)
    labelled = cfg.CLUSTER.METHOD == "none"
    dataset = make_dataset(cfg, need_labels=labelled)
    require_matches(dataset.trials)
    cameras, views = side_counts(cfg, dataset.train)
    stage1 = cfg.MODEL.STAGE1_WEIGHT if recipe == "clipreid" and snapshot is None else ""
    from_clip = snapshot is None and not stage1
    identities = dataset.num_train_pids if cfg.CLUSTER.METHOD == "none" else 0
    model = make_model(cfg, identities, cameras, views, pretrained=from_clip)
    finished: tuple[str, ...] = ()
    if snapshot is not None:
        _require_same_images(snapshot, dataset)
        snapshot.restore_model(model)
        finished = snapshot.finished
    elif stage1:
        with as_keys({"path": "MODEL.STAGE1_WEIGHT"}):
            load_stage1(model, stage1)
        finished = ("stage1",)
    if is_first():
        text = cfg.dump()
        write_atomically(output_dir / "config.yml", lambda beside: beside.write_text(text, "utf-8"))
        if snapshot is not None:
            cut_records(output_dir, snapshot.content["metrics_bytes"])
    # It may read all training images, so what can be refused was.
    plain_batch = cfg.SOLVER.STAGE1.IMS_PER_BATCH if "STAGE1" in cfg.SOLVER else None
    loaders = make_dataloader(cfg, dataset, plain_batch=plain_batch, labelled=labelled)
    if cfg.DATASETS.CHECK_IMAGES:
        _verify(cfg, dataset, loaders.test.num_workers)

    precision = training_precision(cfg.SOLVER.AMP, device)
    _logger.info("Training in %s (SOLVER.AMP %r)", precision.name, cfg.SOLVER.AMP)
    about = {
        "config": cfg.dump(),
        "versions": describe_environment(),
        "launch": launch_name(),
        "images": len(dataset.train),
        "identities": dataset.num_train_pids,
    }
    every = 60 * cfg.SOLVER.SAVE_EVERY_MIN
    run = Run(
        model,
        model_label(cfg.MODEL.NAME),
        device,
        output_dir,
        _evaluator(cfg, model, dataset, loaders, device),
        precision,
        Saver(
            output_dir, model, precision, about, every=every, finished=finished, resumed=snapshot is not None
        ),
        keep=cfg.SOLVER.KEEP,
        sync_batch_norm=cfg.SOLVER.SYNC_BN,
        stop=stop,
    )
    if cfg.TEST.EVAL_BEFORE_TRAINING and snapshot is None:
        metrics = run.evaluate()
        log_metrics(metrics, "Validation Results - Epoch: 0")
        append_record(output_dir, {"stage": "untrained", "epoch": 0, **metrics_record(metrics)})
    idle = True
    for stage in RECIPES[recipe](cfg, model, loaders, run):
        if stage.name in run.saver.finished:
            continue
        idle = False
        _logger.info("%s: %d epochs", stage.name, stage.plan.epochs)
        here = snapshot is not None and snapshot.progress is not None
        if snapshot is not None:
            snapshot.restore_run(precision)
        fit(stage, run, snapshot if here else None)
        snapshot = None
    before = " (all of it before; there is nothing left to train)" if idle else ""
    _logger.info("finished: %s%s", ", ".join(run.saver.finished), before)


def _find_snapshot(cfg: CfgNode, output_dir: Path, *, resume: bool) -> Snapshot | None:
    """The `last.pt` to go on from: if asked to, or where torchrun has started this very run anew."""
    path = output_dir / FILE
    if is_first():
        for former in sorted(output_dir.glob("last.former*.pt")) if resume else ():
            _logger.info("%s is of another run; to go on with it, name it %s", former, FILE)
    restarted = any_process(restarts() > 0)[0]
    if not from_first(path.exists()) or not (resume or restarted):
        if resume:
            _logger.info("%s does not exist: the run starts at its beginning", path)
        return None
    snapshot = read_snapshot(path)
    if not resume and snapshot.content.get("launch") != from_first(launch_name()):
        return None  # torchrun's first attempt ended before it had a file of its own
    require_same_run(cfg, str(snapshot.content.get("config", "")), str(path))
    _logger.info(
        "resuming %s: %s; finished stages: %s",
        path,
        snapshot.progress or "no stage in work",
        ", ".join(snapshot.finished) or "none",
    )
    return snapshot


def _require_same_images(snapshot: Snapshot, dataset: ReIDDataset) -> None:
    for name, now in (("images", len(dataset.train)), ("identities", dataset.num_train_pids)):
        if snapshot.content.get(name) != now:
            raise ValueError(
                f"the training split has {now} {name}, but the run in {snapshot.path} has "
                f"{snapshot.content.get(name)}; allowed with --resume: the same data"
            )


def _verify(cfg: CfgNode, dataset: ReIDDataset, workers: int) -> None:
    """Decode every image once; each process takes its share."""
    skip = cfg.DATALOADER.ON_ERROR == "skip"
    splits = [dataset.train, dataset.test_records()] if skip else [dataset.train + dataset.test_records()]
    for records in splits:
        mine = [records[index] for index in share(len(records))]
        verify_images(mine, workers, skip=skip and records is dataset.train)


def _evaluator(
    cfg: CfgNode, model: ReIDModel, dataset: ReIDDataset, loaders: Loaders, device: torch.device
) -> Callable[[], RetrievalMetrics]:
    precision = test_precision(cfg, device)

    def evaluator() -> RetrievalMetrics:
        features = extract(model, loaders.test, device, precision=precision)
        metrics = None
        if is_first():
            metrics = evaluate_as_configured(cfg, make_task(features, dataset.trials, {}))
        return from_first(metrics)

    return evaluator


def side_counts(cfg: CfgNode, train: list[ImageRecord]) -> tuple[int, int]:
    """Cameras and views that size the SIE table: highest training id + 1.

    On a complete data set that is the count of distinct values; on a part of one, where ids have gaps, the
    table must still have a row for the highest. Raises ValueError when SIE_CAMERA is on and an image has no
    camera.
    """
    unknown = next((record for record in train if record.camid < 0), None)
    if cfg.MODEL.SIE_CAMERA and unknown is not None:
        raise ValueError(f"MODEL.SIE_CAMERA is True but no camera is known of {unknown.path}; allowed: False")
    return max(record.camid for record in train) + 1, max(record.viewid for record in train) + 1
