"""Reports of metrics: the published log lines, and plain values for JSON."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval.bootstrap import RANKS
from retrieval.metrics import RetrievalMetrics
from utils.files import write_atomically

_logger = logging.getLogger("transreid.retrieval")


def metrics_record(metrics: RetrievalMetrics) -> dict[str, float]:
    """Metrics as fractions by name, for JSON."""
    ranks = {f"rank{k}": metrics.rank(k) for k in RANKS}
    return {"mAP": metrics.mAP, "mINP": metrics.mINP, **ranks, "num_valid": metrics.num_valid}


def metrics_lines(metrics: RetrievalMetrics) -> list[str]:
    """The published result lines, in percent, and at their end mINP."""
    ranks = [f"CMC curve, Rank-{k:<3}:{metrics.rank(k):.1%}" for k in RANKS]
    return [f"mAP: {metrics.mAP:.1%}", *ranks, f"mINP: {metrics.mINP:.1%}"]


def log_metrics(metrics: RetrievalMetrics, title: str) -> None:
    """Log a title and the published result lines."""
    for line in (title, *metrics_lines(metrics)):
        _logger.info("%s", line)


def write_metrics(path: str | Path, metrics: RetrievalMetrics, info: Mapping[str, Any]) -> None:
    """Write metrics with the CMC curve, and `info` about model and protocol, as one JSON object."""
    content = {**info, **metrics_record(metrics), "cmc": metrics.cmc.tolist()}
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))
