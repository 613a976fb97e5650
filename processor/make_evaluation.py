"""From the configuration to evaluations: precision, re-ranking and report as TEST says."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from processor.engine import Report
from processor.evaluation import Evaluation, extract_streams
from retrieval import (
    RetrievalMetrics,
    RetrievalTask,
    evaluate_task,
    k_reciprocal_blocks,
    metrics_lines,
    metrics_record,
)
from utils.distributed import from_first, is_first
from utils.precision import Precision, inference_precision

_logger = logging.getLogger("transreid")


def test_precision(cfg: CfgNode, device: torch.device) -> Precision:
    """The precision of feature extraction, which is logged."""
    precision = inference_precision(cfg.TEST.AMP, device)
    _logger.info("Extracting features in %s (TEST.AMP %r)", precision.name, cfg.TEST.AMP)
    return precision


def rerank_settings(cfg: CfgNode) -> dict[str, Any] | None:
    """The arguments of re-ranking by their names; None without it."""
    node = cfg.TEST
    settings = {"k1": node.RERANK_K1, "k2": node.RERANK_K2, "lam": node.RERANK_LAMBDA}
    return settings if node.RE_RANKING else None


def evaluate_as_configured(cfg: CfgNode, task: RetrievalTask) -> RetrievalMetrics:
    """Metrics of a task's features, normalised and re-ranked as TEST says."""
    settings = rerank_settings(cfg)
    if settings:
        _logger.info("Re-ranking with k1 %(k1)d, k2 %(k2)d, lambda %(lam)g", settings)
    rerank = functools.partial(k_reciprocal_blocks, **settings) if settings else None
    return evaluate_task(as_compared(cfg, task), rerank=rerank)


def as_compared(cfg: CfgNode, task: RetrievalTask) -> RetrievalTask:
    """The task on the features that are compared, which TEST.FEAT_NORM normalises."""
    return task.normalized() if cfg.TEST.FEAT_NORM == "yes" else task


class Evaluator:
    """Evaluates a model as it is, the same way every time; all processes get the report.

    `see` is called in the first process with the task on the features that are compared. `metrics` are those
    of the last evaluation there, None before it and in other processes.
    """

    metrics: RetrievalMetrics | None = None

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        evaluation: Evaluation,
        device: torch.device,
        see: Callable[[RetrievalTask], None] | None = None,
    ) -> None:
        self.cfg, self.model, self.evaluation, self.device = cfg, model, evaluation, device
        self.see, self.precision = see, test_precision(cfg, device)

    def __call__(self) -> Report:
        """Extract, rank, report. Raises ValueError where no query can be scored."""
        features = extract_streams(self.evaluation, self.model, self.device, self.precision)
        report = None
        if is_first():
            task = self.evaluation.task(features)
            metrics = self.metrics = evaluate_as_configured(self.cfg, task)
            report = Report(metrics_record(metrics), metrics_lines(metrics))
            if self.see is not None:
                self.see(as_compared(self.cfg, task))
        return from_first(report)
