"""From the configuration to a test: what the two test programs do, and what training evaluates with."""

import argparse
import functools
import logging
import os
from pathlib import Path

import torch
from yacs.config import CfgNode

from config.check import check_config, warn_unused
from config.errors import as_keys
from datasets import ReIDDataset, make_dataloader, make_dataset, verify_images
from model import CheckpointInfo, ReIDModel, make_test_model, model_label
from processor.evaluation.extract import extract, make_task, require_matches
from retrieval import (
    RetrievalMetrics,
    RetrievalTask,
    evaluate_task,
    k_reciprocal_blocks,
    log_metrics,
    write_metrics,
)
from utils.device import select_device
from utils.distributed import is_first, launched_processes, local_rank, process_group, rank, share
from utils.environment import describe_environment
from utils.files import make_output_dir
from utils.logger import setup_logger
from utils.precision import Precision, inference_precision
from utils.seed import seed_everything

_logger = logging.getLogger("transreid")


def test(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Evaluate TEST.WEIGHT on the test split of DATASETS.NAMES; it needs that file and the images alone.

    OUTPUT_DIR gets `test_log.txt`, `metrics.json`, and the features under the name TEST.FEATURES.
    """
    check_config(cfg)
    device = start_process(cfg)
    with process_group(device):
        with as_keys({"path": "OUTPUT_DIR"}):
            output_dir = make_output_dir(cfg.OUTPUT_DIR) if cfg.OUTPUT_DIR and is_first() else None
        start_log(cfg, args, output_dir, "test_log.txt")
        task = extract_task(cfg, read_test_data(cfg), device)
        if is_first():
            _report(cfg, task, output_dir)


def _report(cfg: CfgNode, task: RetrievalTask, output_dir: Path | None) -> None:
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


def extract_task(cfg: CfgNode, dataset: ReIDDataset, device: torch.device) -> RetrievalTask:
    """Features of a test split by the model in TEST.WEIGHT, with the split's trials."""
    seed_everything(cfg.SOLVER.SEED, deterministic=cfg.SOLVER.DETERMINISTIC)
    model, checkpoint = load_test_model(cfg, dataset)
    loaders = make_dataloader(cfg, dataset, size=checkpoint.size)
    if cfg.DATASETS.CHECK_IMAGES:
        records = dataset.test_records()
        verify_images([records[index] for index in share(len(records))], loaders.test.num_workers)
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


def start_process(cfg: CfgNode) -> torch.device:
    """The device of this process; of several that torchrun started, each takes a GPU of its own.

    Raises ValueError when MODEL.DIST_TRAIN or MODEL.DEVICE_ID do not go with how the program was started.
    """
    if cfg.MODEL.DIST_TRAIN and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "MODEL.DIST_TRAIN is True, but the program was not started by torchrun; allowed: False, or "
            "torchrun --nproc_per_node N and the program with its options"
        )
    if launched_processes() == 1:
        with as_keys({"kind": "MODEL.DEVICE", "index": "MODEL.DEVICE_ID"}):
            return select_device(cfg.MODEL.DEVICE, cfg.MODEL.DEVICE_ID)
    if cfg.MODEL.DEVICE_ID != "0":
        raise ValueError(
            f"MODEL.DEVICE_ID is {cfg.MODEL.DEVICE_ID!r}; allowed with several processes: '0', because each "
            "takes a GPU of its own (CUDA_VISIBLE_DEVICES chooses among them)"
        )
    gpus = torch.cuda.device_count()
    if cfg.MODEL.DEVICE == "cuda" and 0 < gpus <= local_rank():
        raise ValueError(
            f"process {local_rank()} of this machine has no GPU, there are {gpus}; allowed: torchrun "
            f"--nproc_per_node up to {gpus}"
        )
    return select_device(cfg.MODEL.DEVICE, str(local_rank()))


def test_precision(cfg: CfgNode, device: torch.device) -> Precision:
    """The precision of feature extraction, which is logged."""
    precision = inference_precision(cfg.TEST.AMP, device)
    _logger.info("Extracting features in %s (TEST.AMP %r)", precision.name, cfg.TEST.AMP)
    return precision


def start_log(cfg: CfgNode, args: argparse.Namespace, output_dir: Path | None, file_name: str) -> None:
    """Set the log up and begin it: the configuration, and where the program runs; warnings of unused keys."""
    setup_logger(output_dir, file_name, rank=rank())
    _logger.info("Saving model in the path :%s", cfg.OUTPUT_DIR)
    _logger.info("%s", args)
    if args.config_file:
        _logger.info("Loaded configuration file %s", args.config_file)
        _logger.info("\n%s", Path(args.config_file).read_text(encoding="utf-8"))
    _logger.info("Running with config:\n%s", cfg)
    environment = describe_environment()
    _logger.info("Running on:\n%s", "\n".join(f"{name}: {value}" for name, value in environment.items()))
    if launched_processes() > 1:
        _logger.info("%d processes share the work", launched_processes())
    warn_unused(cfg)
