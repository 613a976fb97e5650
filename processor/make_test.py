"""From the configuration to a test of TEST.WEIGHT: what the test programs do."""

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from config.check import check_config
from processor.engine.journal import log_lines
from processor.evaluation import extract_streams, require_matches
from processor.make_evaluation import evaluate_as_configured, rerank_settings, test_precision
from processor.make_parts import TrainingData, verify
from processor.make_receipt import TestDone, noted_test
from processor.make_session import test_session
from processor.methods import Method
from retrieval import RetrievalMetrics, RetrievalTask, metrics_lines, write_metrics
from utils.distributed import is_first
from utils.logger import show_waiting
from utils.seed import seed_everything
from utils.untrusted.forms import read_json
from utils.untrusted.metrics_files import MAX_METRICS, TestMetrics
from utils.untrusted.plain import require_plain

_logger = logging.getLogger("transreid")


def test(cfg: CfgNode, args: argparse.Namespace, *, method: Method) -> None:
    """Evaluate TEST.WEIGHT on the test split of DATASETS.TEST (else NAMES); it needs that file and the items.

    OUTPUT_DIR gets `test_log.txt`, `metrics.json`, `receipt.json`, and the features under the name
    TEST.FEATURES.
    """
    check_config(cfg)
    with (
        test_session(cfg, args) as (device, output_dir),
        noted_test(method.name, device, output_dir) as note,
    ):
        require_outputs(cfg, output_dir)
        cfg = method.adopt(cfg, args.opts[::2])
        dataset = read_test_data(cfg, method)
        task = extract_task(cfg, method, dataset, device)
        if is_first():
            note(TestDone(cfg, dataset, *report_test(cfg, task, output_dir)))


def require_outputs(cfg: CfgNode, output_dir: Path | None, *, fused: bool = False) -> None:
    """Raise ValueError, before the test and not after it, where its files cannot be written.

    That is also where those of a test with `fused` features would replace those of a plain one, or these.
    """
    if not output_dir:
        return
    for name in {cfg.TEST.FEATURES or "metrics.json", "metrics.json"}:
        require_plain(output_dir / name)
    try:
        former = read_json(output_dir / "metrics.json", TestMetrics, MAX_METRICS)
    except (OSError, ValueError):
        return  # no results that could be lost
    if fused != (former.attributes is not None):
        raise ValueError(
            f"OUTPUT_DIR {output_dir} has the results of a test {'without' if fused else 'with'} --mm, which "
            "would be replaced; allowed: another folder"
        )


def report_test(
    cfg: CfgNode, task: RetrievalTask, output_dir: Path | None
) -> tuple[dict[str, Any], RetrievalMetrics]:
    """Save a test's features, log its metrics, and write them with the facts about it; returns both."""
    if output_dir and cfg.TEST.FEATURES:
        task.save(output_dir / cfg.TEST.FEATURES)
        _logger.info("saved %s", output_dir / cfg.TEST.FEATURES)
    metrics = evaluate_as_configured(cfg, task)
    log_lines("Validation Results ", metrics_lines(metrics))
    facts = {**task.info, "rerank": rerank_settings(cfg)}
    if output_dir:
        write_metrics(output_dir / "metrics.json", metrics, facts)
    return facts, metrics


def read_test_data(cfg: CfgNode, method: Method) -> TrainingData:
    """The test split of a method's data set; raises ValueError where no query could be scored."""
    dataset = method.data(cfg, need_train=False)
    require_matches(dataset.trials)
    return dataset


def extract_task(cfg: CfgNode, method: Method, dataset: TrainingData, device: torch.device) -> RetrievalTask:
    """Features of a test split by the model in TEST.WEIGHT, with the split's trials."""
    seed_everything(cfg.SOLVER.SEED, deterministic=cfg.SOLVER.DETERMINISTIC)
    model, evaluation = method.test(cfg, dataset)
    show_waiting()
    verify(cfg, dataset)
    precision = test_precision(cfg, device)
    task = evaluation.task(extract_streams(evaluation, model, device, precision))
    made = {"precision": precision.name, "normalize": cfg.TEST.FEAT_NORM == "yes"}
    return dataclasses.replace(task, info={**task.info, **made})
