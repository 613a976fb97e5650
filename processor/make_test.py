"""From the configuration to a test of TEST.WEIGHT: what the test programs do."""

import argparse
import logging
from pathlib import Path

import torch
from yacs.config import CfgNode

from config.check import check_config
from datasets import ReIDDataset, make_dataloader, make_dataset
from model import CheckpointInfo, ReIDModel, adopt_card, make_test_model, model_label
from processor.engine.journal import log_lines
from processor.evaluation import ImageToImage, extract_streams, require_matches
from processor.make_evaluation import evaluate_as_configured, rerank_settings, test_precision
from processor.make_parts import verify
from processor.make_session import test_session
from retrieval import RetrievalTask, metrics_lines, write_metrics
from utils.distributed import is_first
from utils.seed import seed_everything

_logger = logging.getLogger("transreid")


def test(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Evaluate TEST.WEIGHT on the test split of DATASETS.NAMES; it needs only that file and the images.

    OUTPUT_DIR gets `test_log.txt`, `metrics.json`, and the features under the name TEST.FEATURES.
    """
    check_config(cfg)
    with test_session(cfg, args) as session:
        cfg = adopt_card(cfg, args.opts[::2])
        task = extract_task(cfg, read_test_data(cfg), session.device)
        if is_first():
            _report(cfg, task, session.output_dir)


def _report(cfg: CfgNode, task: RetrievalTask, output_dir: Path | None) -> None:
    if output_dir and cfg.TEST.FEATURES:
        task.save(output_dir / cfg.TEST.FEATURES)
        _logger.info("saved %s", output_dir / cfg.TEST.FEATURES)
    metrics = evaluate_as_configured(cfg, task)
    log_lines("Validation Results ", metrics_lines(metrics))
    if output_dir:
        write_metrics(output_dir / "metrics.json", metrics, {**task.info, "rerank": rerank_settings(cfg)})


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


def extract_task(cfg: CfgNode, dataset: ReIDDataset, device: torch.device) -> RetrievalTask:
    """Features of a test split by the model in TEST.WEIGHT, with the split's trials."""
    seed_everything(cfg.SOLVER.SEED, deterministic=cfg.SOLVER.DETERMINISTIC)
    model, checkpoint = load_test_model(cfg, dataset)
    loaders = make_dataloader(cfg, dataset, size=checkpoint.size)
    verify(cfg, dataset)
    precision = test_precision(cfg, device)
    info = {
        "dataset": dataset.name,
        "model": model_label(cfg.MODEL.NAME),
        "weight": cfg.TEST.WEIGHT,
        "size": list(checkpoint.size),
        "stride": list(checkpoint.stride),
        "neck_feature": cfg.TEST.NECK_FEAT,
        "pixel_mean": list(cfg.INPUT.PIXEL_MEAN),
        "pixel_std": list(cfg.INPUT.PIXEL_STD),
        "resize": cfg.INPUT.TEST_RESIZE,
        "precision": precision.name,
        "normalize": cfg.TEST.FEAT_NORM == "yes",
    }
    evaluation = ImageToImage(loaders.test, dataset.trials, info)
    return evaluation.task(extract_streams(evaluation, model, device, precision))
