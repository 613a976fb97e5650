"""Learning rate and weight decay of parameters by name: an ordered list of rules, the first match counts."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import nn

NamedParameters = Iterable[tuple[str, nn.Parameter]]


class NameRule(NamedTuple):
    """Settings of parameters whose name has a match of the regular expression `pattern`."""

    pattern: str
    factor: float  # of the scheduled rate
    decay: float


def group_parameters(
    parameters: NamedParameters, rules: Sequence[NameRule], base_rate: float
) -> list[dict[str, Any]]:
    """Optimizer groups of the parameters that require a gradient, one for each pair of factor and decay.

    Groups stand in the order in which their first parameters come; `lr_scale` is the factor. Raises
    ValueError when a parameter matches no rule or all are frozen.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            rule = next((rule for rule in rules if re.search(rule.pattern, name)), None)
            if rule is None:
                raise ValueError(f"no rule for parameter {name}; rules: {[rule.pattern for rule in rules]}")
            groups.setdefault((float(rule.factor), rule.decay), []).append(parameter)
    if not groups:
        raise ValueError("no parameter to optimize: all are frozen")
    return [
        {"params": members, "lr": base_rate * factor, "lr_scale": factor, "weight_decay": decay}
        for (factor, decay), members in groups.items()
    ]
