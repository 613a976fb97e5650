"""Whether a run can go on under a configuration that is not quite the one it was started with."""

import logging

import yaml
from yacs.config import CfgNode

from config.load import leaves

_logger = logging.getLogger("transreid.config")

# What decides which images come next, what the weights are for, and what is remembered of gradients.
_FIXED = (
    "MODEL.NAME",
    "MODEL.CLASSIFIER",
    "CLUSTER.METHOD",
    "DATASETS.NAMES",
    "DATALOADER.SAMPLER",
    "DATALOADER.NUM_INSTANCE",
    "SOLVER.SEED",
    "SOLVER.OPTIMIZER_NAME",
    "SOLVER.STAGE1.OPTIMIZER_NAME",
    "SOLVER.STAGE2.OPTIMIZER_NAME",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.STAGE1.IMS_PER_BATCH",
    "SOLVER.STAGE2.IMS_PER_BATCH",
)


def require_same_run(cfg: CfgNode, former: str, where: str) -> None:
    """Compare with the configuration (YAML text) of the run in the file `where`; one warning per changed key.

    Raises ValueError when a key has changed without which the run would not be the same, or the text is none.
    """
    try:
        before = leaves(yaml.safe_load(former))
    except (yaml.YAMLError, AttributeError, RecursionError) as error:
        raise ValueError(f"{where} holds no configuration: {' '.join(str(error).split())[:200]}") from error
    now = leaves(yaml.safe_load(cfg.dump()))
    for key in sorted(now.keys() & before.keys()):
        if now[key] == before[key]:
            continue
        if key in _FIXED:
            raise ValueError(
                f"{key} is {now[key]!r}, but the run in {where} has {before[key]!r}; allowed with --resume: "
                "that value, or another OUTPUT_DIR for another run"
            )
        _logger.warning("resumed with %s %r, was %r", key, now[key], before[key])
