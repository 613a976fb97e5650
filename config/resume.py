"""Whether a run can be resumed with a configuration that differs from the one it was started with."""

import logging
from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from config.keys import table_of
from config.load import leaves

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
