"""Checks of values that need no data, and warnings about keys that are accepted but do nothing."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode

from config import defaults as trees
from config.load import leaves

_logger = logging.getLogger("transreid.config")


class _Rule(NamedTuple):
    allowed: str
    holds: Callable[[Any], bool]


def _words(*words: Any) -> _Rule:
    return _Rule(", ".join(map(repr, words)), lambda value: value in words)


def _is_finite(value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return all(math.isfinite(number) for number in numbers if isinstance(number, float))


_FINITE = _Rule("finite numbers", _is_finite)
_ONE_OR_MORE = _Rule("1 or more", lambda value: value >= 1)
_ZERO_OR_MORE = _Rule("0 or more", lambda value: value >= 0)
_FRACTION = _Rule("0 to 1", lambda value: 0 <= value <= 1)
_POSITIVE = _Rule("above 0", lambda value: value > 0)
_POSITIVE_NUMBERS = _Rule("positive numbers", lambda values: all(value > 0 for value in values))
_AMP = _words("auto", "bf16", "fp16", "off")
_ON_OFF, _YES_NO = _words("on", "off"), _words("yes", "no")

_RULES = {
    "MODEL.DEVICE": _words("cuda", "cpu"),
    "MODEL.DEVICE_ID": _Rule(
        "the index of a visible GPU, e.g. '0'", lambda text: text.isascii() and text.isdigit()
    ),
    "MODEL.PRETRAIN_CHOICE": _words("imagenet", "clip", "none"),
    "MODEL.STRIDE_SIZE": _POSITIVE_NUMBERS,
    "MODEL.ID_LOSS_WEIGHT": _ZERO_OR_MORE,
    "MODEL.TRIPLET_LOSS_WEIGHT": _ZERO_OR_MORE,
    "MODEL.I2T_LOSS_WEIGHT": _ZERO_OR_MORE,
    "MODEL.PCL_LOSS_WEIGHT": _ZERO_OR_MORE,
    "MODEL.MEMORY_MOMENTUM": _FRACTION,
    "MODEL.MEMORY_TEMPERATURE": _POSITIVE,
    "MODEL.MEMORY_UPDATE": _words("hard", "all"),
    "MODEL.CLASSIFIER": _words("two", "joint"),
    "MODEL.METRIC_LOSS_TYPE": _words("triplet", "triplet_center"),
    "MODEL.IF_LABELSMOOTH": _ON_OFF,
    "INPUT.SIZE_TRAIN": _POSITIVE_NUMBERS,
    "INPUT.SIZE_TEST": _POSITIVE_NUMBERS,
    "INPUT.PIXEL_STD": _POSITIVE_NUMBERS,
    "INPUT.PROB": _FRACTION,
    "INPUT.RE_PROB": _FRACTION,
    "INPUT.RE_MODE": _words("pixel", "constant"),
    "INPUT.TEST_RESIZE": _words("bilinear", "bicubic"),
    "INPUT.PADDING": _ZERO_OR_MORE,
    "DATASETS.VEHICLEID_TEST_SIZE": _words(800, 1600, 2400),
    "DATALOADER.SAMPLER": _words("softmax", "softmax_triplet"),
    "DATALOADER.NUM_INSTANCE": _Rule("2 or more", lambda value: value >= 2),
    "DATALOADER.ON_ERROR": _words("raise", "skip"),
    "DATALOADER.NUM_WORKERS": _Rule("-1 (as many as processors) or more", lambda value: value >= -1),
    "SOLVER.SEED": _Rule("0 to 4294967295", lambda value: 0 <= value < 2**32),
    "SOLVER.MARGIN": _ZERO_OR_MORE,
    "SOLVER.AMP": _AMP,
    "SOLVER.MICRO_BATCH": _ZERO_OR_MORE,
    "SOLVER.SAVE_EVERY_MIN": _ZERO_OR_MORE,
    "SOLVER.KEEP": _ZERO_OR_MORE,
    "CLUSTER.METHOD": _words("none", "dbscan"),
    "CLUSTER.EPS": _Rule("above 0 and below 1", lambda value: 0 < value < 1),
    "CLUSTER.MIN_SAMPLES": _ONE_OR_MORE,
    "CLUSTER.K1": _ONE_OR_MORE,
    "CLUSTER.K2": _ONE_OR_MORE,
    "TEST.IMS_PER_BATCH": _ONE_OR_MORE,
    "TEST.AMP": _AMP,
    "TEST.NECK_FEAT": _words("before", "after"),
    "TEST.FEAT_NORM": _YES_NO,
    "TEST.SIE": _words("auto", "mean"),
    "TEST.RERANK_K1": _ONE_OR_MORE,
    "TEST.RERANK_K2": _ONE_OR_MORE,
    "TEST.RERANK_LAMBDA": _FRACTION,
    "TEST.FEATURES": _Rule(
        "the name of a file, e.g. 'features.npz', or ''", lambda name: Path(name).name == name
    ),
}

# Of every stage that has the key.
_STAGE_RULES = {
    "IMS_PER_BATCH": _ONE_OR_MORE,
    "MAX_EPOCHS": _ONE_OR_MORE,
    "OPTIMIZER_NAME": _words("Adam", "AdamW", "SGD"),
    "MOMENTUM": _FRACTION,
    "BASE_LR": _ZERO_OR_MORE,
    "WEIGHT_DECAY": _ZERO_OR_MORE,
    "WEIGHT_DECAY_BIAS": _Rule("-1 (as WEIGHT_DECAY), 0 or more", lambda value: value == -1 or value >= 0),
    "LR_MIN": _ZERO_OR_MORE,
    "WARMUP_EPOCHS": _ZERO_OR_MORE,
    "WARMUP_LR_INIT": _ZERO_OR_MORE,
    "WARMUP_ITERS": _ZERO_OR_MORE,
    "WARMUP_FACTOR": _FRACTION,
    "WARMUP_METHOD": _words("linear", "constant"),
    "CHECKPOINT_PERIOD": _ONE_OR_MORE,
    "LOG_PERIOD": _ONE_OR_MORE,
    "EVAL_PERIOD": _ONE_OR_MORE,
    "STEPS": _Rule(
        "ascending epochs from 1 on",
        lambda steps: all(step >= 1 for step in steps) and sorted(set(steps)) == list(steps),
    ),
    "ITERS": _Rule("-1 (as many as one pass gives), 1 or more", lambda value: value == -1 or value >= 1),
    "SCHEDULE_START": _words(0, 1),
    "GAMMA": _ZERO_OR_MORE,
    "BIAS_LR_FACTOR": _ZERO_OR_MORE,
    "CENTER_LR": _ZERO_OR_MORE,
    "CENTER_LOSS_WEIGHT": _ZERO_OR_MORE,
}

# Clusters come and go: no classifier and no centre follows them. Only the identity sampler leaves outliers
# out, and which image may stand in for another is not known before there are features.
_WITH_CLUSTERS = {
    "MODEL.ID_LOSS_WEIGHT": 0.0,
    "MODEL.METRIC_LOSS_TYPE": "triplet",
    "DATALOADER.SAMPLER": "softmax_triplet",
    "DATALOADER.ON_ERROR": "raise",
}

_UNUSED = {
    "MODEL.ID_LOSS_TYPE": "the identity loss is always softmax cross-entropy",
    "MODEL.IF_WITH_CENTER": "MODEL.METRIC_LOSS_TYPE 'triplet_center' switches the centre loss on",
    "MODEL.NECK": "the head always has the two batch norms",
    "MODEL.LAST_STRIDE": "the last ResNet stage always has stride 1",
    "MODEL.COS_LAYER": "the classifiers are always linear",
    "MODEL.TRANSFORMER_TYPE": "MODEL.NAME decides the image tower",
    "MODEL.DROP_OUT": "CLIP's towers have no dropout",
    "MODEL.DROP_PATH": "CLIP's towers have no stochastic depth",
    "MODEL.ATT_DROP_RATE": "CLIP's towers have no attention dropout",
    "TEST.DIST_MAT": "no distance matrix is written",
}
# Keys of what is not switched on; each with the reason.
_IDLE_MEMORY = dict.fromkeys(
    ("MODEL.MEMORY_MOMENTUM", "MODEL.MEMORY_TEMPERATURE", "MODEL.MEMORY_UPDATE"),
    "MODEL.PCL_LOSS_WEIGHT is 0, there are no prototypes",
)
_IDLE_CLUSTERS = dict.fromkeys(
    ("CLUSTER.EPS", "CLUSTER.MIN_SAMPLES", "CLUSTER.K1", "CLUSTER.K2"),
    "CLUSTER.METHOD is 'none', training takes the identities that are given",
)
_UNUSED_IN_ONE_STAGE = {
    "MODEL.I2T_LOSS_WEIGHT": "one-stage training has no texts",
    "DATASETS.SUBJECT": "one-stage training has no prompts",
    "MODEL.STAGE1_WEIGHT": "one-stage training has no stage 1",
}
_UNUSED_IN_EVERY_STAGE = dict.fromkeys(("COSINE_MARGIN", "COSINE_SCALE"), "there is no cosine classifier")
_UNUSED_IN_STAGE1 = {
    **dict.fromkeys(
        ("WARMUP_ITERS", "WARMUP_FACTOR", "WARMUP_METHOD"),
        "stage 1 follows a cosine, whose warm-up is WARMUP_EPOCHS and WARMUP_LR_INIT",
    ),
    "EVAL_PERIOD": "stage 1 does not change what is evaluated",
}
_UNUSED_IN_MAIN_STAGE = dict.fromkeys(
    ("LR_MIN", "WARMUP_EPOCHS", "WARMUP_LR_INIT"),
    "this stage follows STEPS, its warm-up is WARMUP_ITERS, WARMUP_FACTOR and WARMUP_METHOD",
)


def check_config(cfg: CfgNode) -> None:
    """Check every value that can be judged without data. Raises ValueError: key, value, what is allowed."""
    for key, value in leaves(cfg).items():
        _require(key, value, _FINITE)
    for key, rule in _RULES.items():
        group, name = key.split(".")
        _require(key, cfg[group][name], rule)
    for prefix, node in _stages(cfg).items():
        for name, rule in _STAGE_RULES.items():
            if name in node:
                _require(f"{prefix}.{name}", node[name], rule)
    if cfg.DATALOADER.SAMPLER == "softmax_triplet":
        prefix, node = list(_stages(cfg).items())[-1]
        instances = cfg.DATALOADER.NUM_INSTANCE
        rule = _Rule(
            f"multiples of DATALOADER.NUM_INSTANCE {instances}", lambda value: value % instances == 0
        )
        _require(f"{prefix}.IMS_PER_BATCH", node.IMS_PER_BATCH, rule)
    if cfg.CLUSTER.METHOD != "none":
        for key, value in _WITH_CLUSTERS.items():
            group, name = key.split(".")
            rule = _Rule(f"{value!r} with CLUSTER.METHOD {cfg.CLUSTER.METHOD!r}", lambda v, w=value: v == w)
            _require(key, cfg[group][name], rule)
        rule = _POSITIVE._replace(allowed=f"above 0 with CLUSTER.METHOD {cfg.CLUSTER.METHOD!r}")
        _require("MODEL.PCL_LOSS_WEIGHT", cfg.MODEL.PCL_LOSS_WEIGHT, rule)


def unused_reasons(cfg: CfgNode) -> dict[str, str]:
    """The keys of this kind of tree that nothing reads, each with the reason.

    TEST.EVAL is left out: published files have both its values, which mean nothing.
    """
    reasons = dict(_UNUSED)
    if "STAGE1" not in cfg.SOLVER:
        reasons |= _UNUSED_IN_ONE_STAGE
    for prefix in _stages(cfg):
        own = _UNUSED_IN_STAGE1 if prefix.endswith("STAGE1") else _UNUSED_IN_MAIN_STAGE
        reasons |= {f"{prefix}.{name}": why for name, why in {**_UNUSED_IN_EVERY_STAGE, **own}.items()}
    return reasons


def unused_keys(cfg: CfgNode, defaults: CfgNode) -> list[str]:
    """The full keys that nothing reads and that are set to something else than their default."""
    values, default_values = leaves(cfg), leaves(defaults)
    return [key for key in unused_reasons(cfg) | _idle_reasons(cfg) if values[key] != default_values[key]]


def _idle_reasons(cfg: CfgNode) -> dict[str, str]:
    memory = {} if cfg.MODEL.PCL_LOSS_WEIGHT else _IDLE_MEMORY
    return memory | ({} if cfg.CLUSTER.METHOD != "none" else _IDLE_CLUSTERS)


def warn_unused(cfg: CfgNode, base: CfgNode | None = None) -> None:
    """Log one warning per unused key that differs from `base`, by default the tree of the same kind."""
    if base is None:
        base = trees.cfg if "STAGE1" in cfg.SOLVER else trees.cfg_base
    values, reasons = leaves(cfg), unused_reasons(cfg) | _idle_reasons(cfg)
    for key in unused_keys(cfg, base):
        _logger.warning("%s %r has no effect: %s", key, values[key], reasons[key])


def _stages(cfg: CfgNode) -> dict[str, CfgNode]:
    """The solver node of each stage by its full key; the main stage is the last."""
    if "STAGE1" in cfg.SOLVER:
        return {f"SOLVER.{name}": cfg.SOLVER[name] for name in ("STAGE1", "STAGE2")}
    return {"SOLVER": cfg.SOLVER}


def _require(key: str, value: Any, rule: _Rule) -> None:
    if not rule.holds(value):
        raise ValueError(f"{key} is {value!r}; allowed: {rule.allowed}")
