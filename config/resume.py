"""Whether a run can be resumed with a configuration that differs from the one it was started with."""

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any

from yacs.config import CfgNode

from config.keys import table_of
from config.load import leaves

_PERIODS = ("CHECKPOINT_PERIOD", "EVAL_PERIOD", "LOG_PERIOD")
_logger = logging.getLogger("transreid.config")


def require_same_run(cfg: CfgNode, before: Mapping[str, Any], where: str) -> None:
    """Compare with the values by full key of the run in the file `where`; one warning per changed key.

    Raises ValueError when a key that defines the run has changed, or when there are none.
    """
    keys, now = table_of(cfg).keys, leaves(cfg)
    if not keys.keys() & before.keys():
        raise ValueError(f"{where} holds no configuration")
    for name in sorted(now.keys() & before.keys()):
        if now[name] == before[name]:
            continue
        if keys[name].fixed:
            raise ValueError(
                f"{name} is {now[name]!r}, but the run in {where} has {before[name]!r}; allowed with "
                "--resume: that value, or another OUTPUT_DIR for another run"
            )
        _logger.warning("resumed with %s %r, was %r", name, now[name], before[name])


def require_same_stages(cfg: CfgNode, before: Mapping[str, Any], where: str, stages: Collection[str]) -> None:
    """Compare with the values by full key of the run whose finished `stages`, such as 'stage1', are used.

    What defines a run must be equal, and all settings of these stages but periods; those of other stages may
    differ. Raises ValueError with the first difference; `where` names the file.
    """
    keys, now = table_of(cfg).keys, leaves(cfg)
    for name in sorted(now.keys() & before.keys()):
        stage = re.match(r"SOLVER\.(STAGE\d)\.", name)
        if stage is None:
            # How batches are drawn is the last stage's.
            counts = keys[name].fixed and ("stage2" in stages or not name.startswith("DATALOADER."))
        else:
            counts = stage[1].lower() in stages and not name.endswith(_PERIODS)
        if counts and now[name] != before[name]:
            raise ValueError(
                f"{name} is {now[name]!r}, but {where} was trained with {before[name]!r}; allowed with "
                "SOLVER.SKIP_FINISHED: that value, or another OUTPUT_DIR"
            )
