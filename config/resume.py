"""Whether a run can be resumed with a configuration that differs from the one it was started with."""

import logging

import yaml
from yacs.config import CfgNode

from config.keys import table_of
from config.load import leaves

_logger = logging.getLogger("transreid.config")


def require_same_run(cfg: CfgNode, former: str, where: str) -> None:
    """Compare with the configuration (YAML text) of the run in the file `where`; one warning per changed key.

    Raises ValueError when a key that defines the run has changed, or when `former` is not a configuration.
    """
    try:
        before = leaves(yaml.safe_load(former))
    except (yaml.YAMLError, AttributeError, RecursionError) as error:
        raise ValueError(f"{where} holds no configuration: {' '.join(str(error).split())[:200]}") from error
    keys, now = table_of(cfg).keys, leaves(yaml.safe_load(cfg.dump()))
    for name in sorted(now.keys() & before.keys()):
        if now[name] == before[name]:
            continue
        if keys[name].fixed:
            raise ValueError(
                f"{name} is {now[name]!r}, but the run in {where} has {before[name]!r}; allowed with "
                "--resume: that value, or another OUTPUT_DIR for another run"
            )
        _logger.warning("resumed with %s %r, was %r", name, now[name], before[name])
