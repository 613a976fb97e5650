"""The names under which trackers of experiments show the numbers of a run."""

import math
from collections.abc import Mapping
from typing import Any

_TRAINED = ("loss", "acc", "acc_i2t", "acc_t2i")
_EVALUATED = ("mAP", "rank1", "rank5", "rank10")
_PLACE = ("stage", "epoch", "iteration", "step", "time")  # of a line, no numbers of the run


def published_metrics(line: Mapping[str, Any], step: bool = False) -> dict[str, float]:
    """The numbers of a line of `metrics.jsonl`, or of the record of a step, under reid-task's names.

    `train_loss_{stage}_epoch` or `…_step`, the same of accuracies; of an epoch also `base_lr_{stage}`, and
    `val_mAP`, `val_rank1`, `val_rank5`, `val_rank10` as fractions. All else is left out.
    """
    stage, kind = line["stage"], _kind(step)
    found = {f"train_{name}_{stage}_{kind}": line[name] for name in _TRAINED if name in line}
    if not step:
        found |= {f"base_lr_{stage}": line["lr"]} if "lr" in line else {}
        found |= {f"val_{name}": line[name] for name in _EVALUATED if name in line}
    return found


def tracked_metrics(line: Mapping[str, Any], step: bool = False) -> dict[str, float]:
    """The `published_metrics`, and all other numbers of the line as `{name}_{stage}_epoch` or `…_step`.

    Those are the terms of the loss, clusters, seconds and the like. NaN and infinity are left out.
    """
    known = {*_TRAINED, *_EVALUATED, *_PLACE, *(() if step else ("lr",))}
    others = {f"{name}_{line['stage']}_{_kind(step)}": line[name] for name in line if name not in known}
    found = published_metrics(line, step) | others
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def _kind(step: bool) -> str:
    return "step" if step else "epoch"
