"""Reports of metrics: the published log lines, and plain values for JSON."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval.bootstrap import RANKS
from retrieval.metrics import RetrievalMetrics
from utils.files import write_atomically
from utils.text import shortened

_MEAN = "mean"
_SHOWN = 40  # characters of a trial's name
_logger = logging.getLogger("transreid.retrieval")


def metrics_record(metrics: RetrievalMetrics) -> dict[str, float]:
    """Metrics as fractions by name, for JSON; those of a named trial follow as `{trial}_{metric}`."""
    record = _fractions(metrics)
    for trial, own in metrics.named.items():
        record |= {f"{trial}_{name}": value for name, value in _fractions(own).items()}
    return record


def _fractions(metrics: RetrievalMetrics) -> dict[str, float]:
    ranks = {f"rank{k}": metrics.rank(k) for k in RANKS}
    return {"mAP": metrics.mAP, "mINP": metrics.mINP, **ranks, "num_valid": metrics.num_valid}


def metrics_lines(metrics: RetrievalMetrics) -> list[str]:
    """The published result lines, in percent, and at their end mINP; of named trials one table."""
    if metrics.named:
        return _table(metrics)
    ranks = [f"CMC curve, Rank-{k:<3}:{metrics.rank(k):.1%}" for k in RANKS]
    return [f"mAP: {metrics.mAP:.1%}", *ranks, f"mINP: {metrics.mINP:.1%}"]


def _table(metrics: RetrievalMetrics) -> list[str]:
    """A line for each named trial, and one for the mean of all trials, in percent."""
    rows = [*((shortened(name, _SHOWN), own) for name, own in metrics.named.items()), (_MEAN, metrics)]
    width = max(len(name) for name, _ in rows)
    titles = [*(f"Rank-{k}" for k in RANKS), "mAP", "mINP"]
    lines = [" | ".join([" " * width, *(f"{title:>7}" for title in titles)])]
    lines.append("-|-".join(["-" * width, *("-" * 7 for _ in titles)]))
    for name, own in rows:
        values = (*(own.rank(k) for k in RANKS), own.mAP, own.mINP)
        lines.append(" | ".join([f"{name:<{width}}", *(f"{value:7.1%}" for value in values)]))
    return lines


def log_metrics(metrics: RetrievalMetrics, title: str) -> None:
    """Log a title and the published result lines."""
    for line in (title, *metrics_lines(metrics)):
        _logger.info("%s", line)


def write_metrics(path: str | Path, metrics: RetrievalMetrics, info: Mapping[str, Any]) -> None:
    """Write metrics with the CMC curves, and `info` about model and protocol, as one JSON object."""
    curves = {f"{trial}_cmc": own.cmc.tolist() for trial, own in metrics.named.items()}
    content = {**info, **metrics_record(metrics), "cmc": metrics.cmc.tolist(), **curves}
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))
