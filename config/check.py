"""Checks of values that need no data, and warnings about keys without effect."""

import logging
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from yacs.config import CfgNode

from config.keys import Check, Rule, table_of
from config.load import COMMAND_LINE, leaves, sources

_logger = logging.getLogger("transreid.config")


def _is_finite(value: object) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return all(math.isfinite(number) for number in numbers if isinstance(number, float))


_FINITE = Rule("finite numbers", _is_finite)


def check_config(cfg: CfgNode) -> None:
    """Check every value that can be judged without data. Raises ValueError: key, value, allowed values."""
    _check(cfg, table_of(cfg).checks)


def check_training(cfg: CfgNode) -> None:
    """`check_config` and the checks that concern training only."""
    _check(cfg, (*table_of(cfg).training_checks, *table_of(cfg).checks))


def _check(cfg: CfgNode, across_keys: Iterable[Check]) -> None:
    values = leaves(cfg)
    with _naming_files(cfg):
        for name, key in table_of(cfg).keys.items():
            _FINITE.require(name, values[name])
            if key.rule:
                key.rule.require(name, values[name])
        for check in across_keys:
            check(cfg)


@contextmanager
def _naming_files(cfg: CfgNode) -> Iterator[None]:
    """Adds to an error the files in which the keys that it names are set."""
    try:
        yield
    except ValueError as error:
        keys = set(re.findall(r"[A-Z0-9_.]+", str(error)))
        files = sorted({where for key, where in sources(cfg).items() if key in keys} - {COMMAND_LINE})
        if not files:
            raise
        raise ValueError(f"{error} ({', '.join(files)})") from error


def unused_keys(cfg: CfgNode) -> dict[str, str]:
    """The keys that have no effect although they are not at their default, each with the reason."""
    found, values = {}, leaves(cfg)
    for name, key in table_of(cfg).keys.items():
        reason = key.unused
        if key.needs and not reason:
            others, rule = key.needed(name), key.needs[1]
            if not any(rule.holds(values[other]) for other in others):
                now = ", ".join(repr(values[other]) for other in others)
                verb = "are" if len(others) > 1 else "is"
                reason = f"it needs {' or '.join(others)} {rule.allowed}, which {verb} {now}"
        if reason and values[name] != key.default:
            found[name] = reason
    return found


def warn_unused(cfg: CfgNode) -> None:
    """Log one warning for each of `unused_keys`."""
    values = leaves(cfg)
    for name, reason in unused_keys(cfg).items():
        _logger.warning("%s %r has no effect: %s", name, values[name], reason)
