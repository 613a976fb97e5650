"""From the configuration to a run: what the four programs do."""

import argparse
import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from yacs.config import CfgNode

from config.check import check_config, warn_unused
from datasets import ImageRecord, Loaders, ReIDDataset, make_dataloader, make_dataset, verify_images
from loss import make_loss
from model import CheckpointInfo, ReIDModel, make_model, make_test_model, model_label
from processor.baseline import baseline
from processor.clipreid import clipreid
from processor.engine import Run, append_record, fit
from processor.inference import extract, make_task, require_matches
from processor.stage import Plan, Stage
from retrieval import (
    RetrievalMetrics,
    RetrievalTask,
    evaluate_task,
    k_reciprocal_blocks,
    log_metrics,
    metrics_record,
    write_metrics,
)
from solver import make_optimizer, make_schedule, solver_node
from utils.device import select_device
from utils.files import make_output_dir
from utils.logger import setup_logger
from utils.precision import Precision, inference_precision, training_precision
from utils.seed import seed_everything

_logger = logging.getLogger("transreid")


def make_plan(cfg: CfgNode, stage: str) -> Plan:
    """The plan of 'stage1' or 'main' (stage 2, or the only stage)."""
    node = solver_node(cfg, stage)
    return Plan(
        epochs=node.MAX_EPOCHS,
        batch_size=node.IMS_PER_BATCH,
        schedule=make_schedule(cfg, stage),
        make_optimizer=functools.partial(make_optimizer, cfg, stage=stage),
        log_period=node.LOG_PERIOD,
        checkpoint_period=node.CHECKPOINT_PERIOD,
        # Prompts do not touch the image side, whose features alone are evaluated.
        eval_period=None if stage == "stage1" else node.EVAL_PERIOD,
        # On a GPU stage 1 is captured, which a compiler would only break up.
        compile=cfg.SOLVER.COMPILE and stage != "stage1",
    )


def _baseline(cfg: CfgNode, model: ReIDModel, loaders: Loaders, run: Run) -> Iterator[Stage]:
    loss = make_loss(cfg, model.num_classes, model.image_encoder.width)
    return baseline(model, loss, loaders.train, make_plan(cfg, "main"))


def _clipreid(cfg: CfgNode, model: ReIDModel, loaders: Loaders, run: Run) -> Iterator[Stage]:
    return clipreid(
        model,
        make_loss(cfg, model.num_classes, model.image_encoder.width),
        loaders.train,
        loaders.cache,
        prompt_plan=make_plan(cfg, "stage1"),
        image_plan=make_plan(cfg, "main"),
        device=run.device,
        precision=run.precision,
        seed=cfg.SOLVER.SEED,
        half_features=cfg.SOLVER.STAGE1.HALF_FEATURES,
    )


Recipe = Callable[[CfgNode, ReIDModel, Loaders, Run], Iterator[Stage]]
RECIPES: dict[str, Recipe] = {"baseline": _baseline, "clipreid": _clipreid}


def train(cfg: CfgNode, args: argparse.Namespace, *, recipe: str) -> None:
    """Train by a recipe; OUTPUT_DIR gets checkpoints, `train_log.txt`, `config.yml` and `metrics.jsonl`.

    Everything that can be wrong with configuration, data, weights and output folder is found before training.
    """
    check_config(cfg)
    device = select_device(cfg.MODEL.DEVICE, cfg.MODEL.DEVICE_ID)
    if cfg.INPUT.SIZE_TEST != cfg.INPUT.SIZE_TRAIN:  # the first evaluation would fail
        raise ValueError(
            f"INPUT.SIZE_TEST is {cfg.INPUT.SIZE_TEST}; allowed in training: INPUT.SIZE_TRAIN "
            f"{cfg.INPUT.SIZE_TRAIN}, the size for which the image tower is built"
        )
    if not cfg.OUTPUT_DIR:
        raise ValueError("OUTPUT_DIR is empty; allowed: a folder for checkpoints and logs, e.g. logs/my_run")
    output_dir = make_output_dir(cfg.OUTPUT_DIR)
    _start_log(cfg, args, output_dir, "train_log.txt")
    (output_dir / "config.yml").write_text(cfg.dump(), encoding="utf-8")
    seed_everything(cfg.SOLVER.SEED)
    dataset = make_dataset(cfg)
    require_matches(dataset.trials)
    cameras, views = side_counts(cfg, dataset.train)
    model = make_model(cfg, dataset.num_train_pids, cameras, views)
    loaders = make_dataloader(cfg, dataset)  # may read all training images, so what can be refused was
    if cfg.DATASETS.CHECK_IMAGES:
        verify_images(dataset.train + dataset.test_records(), loaders.test.num_workers)

    run = Run(
        model,
        model_label(cfg.MODEL.NAME),
        device,
        output_dir,
        _evaluator(cfg, model, dataset, loaders, device),
        training_precision(cfg.SOLVER.AMP, device),
    )
    _logger.info("Training in %s (SOLVER.AMP %r)", run.precision.name, cfg.SOLVER.AMP)
    if cfg.TEST.EVAL_BEFORE_TRAINING:
        metrics = run.evaluate()
        log_metrics(metrics, "Validation Results - Epoch: 0")
        append_record(run, {"stage": "untrained", "epoch": 0, **metrics_record(metrics)})
    for stage in RECIPES[recipe](cfg, model, loaders, run):
        _logger.info("%s: %d epochs", stage.name, stage.plan.epochs)
        fit(stage, run)


def test(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Evaluate TEST.WEIGHT on the test split of DATASETS.NAMES; it needs that file and the images alone.

    OUTPUT_DIR gets `test_log.txt`, `metrics.json`, and the features under the name TEST.FEATURES.
    """
    check_config(cfg)
    output_dir = make_output_dir(cfg.OUTPUT_DIR) if cfg.OUTPUT_DIR else None
    _start_log(cfg, args, output_dir, "test_log.txt")
    task = extract_task(cfg, read_test_data(cfg))
    if output_dir and cfg.TEST.FEATURES:
        task.save(output_dir / cfg.TEST.FEATURES)
        _logger.info("saved %s", output_dir / cfg.TEST.FEATURES)
    metrics = evaluate_as_configured(cfg, task)
    log_metrics(metrics, "Validation Results ")
    if output_dir:
        write_metrics(output_dir / "metrics.json", metrics, {**task.info, "rerank": _rerank_settings(cfg)})


def read_test_data(cfg: CfgNode) -> ReIDDataset:
    """The test split of DATASETS.NAMES; raises ValueError where no query could be scored."""
    dataset = make_dataset(cfg, need_train=False)
    require_matches(dataset.trials)
    return dataset


def load_test_model(cfg: CfgNode, dataset: ReIDDataset) -> tuple[ReIDModel, CheckpointInfo]:
    """The model in TEST.WEIGHT for the cameras and views of a test split."""
    records = dataset.test_records()
    cameras = max(record.camid for record in records) + 1
    views = max(record.viewid for record in records) + 1
    return make_test_model(cfg, cameras, views)


def extract_task(cfg: CfgNode, dataset: ReIDDataset) -> RetrievalTask:
    """Features of a test split by the model in TEST.WEIGHT, with the split's trials."""
    device = select_device(cfg.MODEL.DEVICE, cfg.MODEL.DEVICE_ID)
    seed_everything(cfg.SOLVER.SEED)
    model, checkpoint = load_test_model(cfg, dataset)
    loaders = make_dataloader(cfg, dataset, size=checkpoint.size)
    if cfg.DATASETS.CHECK_IMAGES:
        verify_images(dataset.test_records(), loaders.test.num_workers)
    precision = _test_precision(cfg, device)
    info = {
        "dataset": dataset.name,
        "model": model_label(cfg.MODEL.NAME),
        "weight": cfg.TEST.WEIGHT,
        "size": list(checkpoint.size),
        "stride": list(checkpoint.stride),
        "neck_feature": cfg.TEST.NECK_FEAT,
        "pixel_mean": list(cfg.INPUT.PIXEL_MEAN),
        "pixel_std": list(cfg.INPUT.PIXEL_STD),
        "precision": precision.name,
        "normalize": cfg.TEST.FEAT_NORM == "yes",
    }
    return make_task(extract(model, loaders.test, device, precision=precision), dataset.trials, info)


def evaluate_as_configured(cfg: CfgNode, task: RetrievalTask) -> RetrievalMetrics:
    """Metrics of a task's features, normalised and re-ranked as TEST says."""
    settings = _rerank_settings(cfg)
    if settings:
        _logger.info("Re-ranking with k1 %(k1)d, k2 %(k2)d, lambda %(lam)g", settings)
    rerank = functools.partial(k_reciprocal_blocks, **settings) if settings else None
    return evaluate_task(task.normalized() if cfg.TEST.FEAT_NORM == "yes" else task, rerank=rerank)


def _rerank_settings(cfg: CfgNode) -> dict[str, float] | None:
    node = cfg.TEST
    return (
        {"k1": node.RERANK_K1, "k2": node.RERANK_K2, "lam": node.RERANK_LAMBDA} if node.RE_RANKING else None
    )


def _evaluator(
    cfg: CfgNode, model: ReIDModel, dataset: ReIDDataset, loaders: Loaders, device: torch.device
) -> Callable[[], RetrievalMetrics]:
    precision = _test_precision(cfg, device)

    def evaluator() -> RetrievalMetrics:
        features = extract(model, loaders.test, device, precision=precision)
        return evaluate_as_configured(cfg, make_task(features, dataset.trials, {}))

    return evaluator


def _test_precision(cfg: CfgNode, device: torch.device) -> Precision:
    precision = inference_precision(cfg.TEST.AMP, device)
    _logger.info("Extracting features in %s (TEST.AMP %r)", precision.name, cfg.TEST.AMP)
    return precision


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


def _start_log(cfg: CfgNode, args: argparse.Namespace, output_dir: Path | None, file_name: str) -> None:
    setup_logger(output_dir, file_name)
    _logger.info("Saving model in the path :%s", cfg.OUTPUT_DIR)
    _logger.info("%s", args)
    if args.config_file:
        _logger.info("Loaded configuration file %s", args.config_file)
        _logger.info("\n%s", Path(args.config_file).read_text(encoding="utf-8"))
    _logger.info("Running with config:\n%s", cfg)
    warn_unused(cfg)
