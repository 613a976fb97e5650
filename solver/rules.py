"""Learning rate and weight decay of parameters by name: an ordered list of rules, the first match counts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

NamedParameters = Iterable[tuple[str, nn.Parameter]]


class NameRule(NamedTuple):
    """Settings of parameters whose name has a match of the regular expression `pattern`.

    `most_dims` restricts the rule to parameters of that many dimensions or fewer; None does not.
    """

    pattern: str
    factor: float  # of the scheduled rate
    decay: float
    most_dims: int | None = None

    def fits(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether the rule is for the parameter of that name."""
        small = self.most_dims is None or parameter.ndim <= self.most_dims
        return small and re.search(self.pattern, name) is not None


def group_parameters(
    parameters: NamedParameters,
    rules: Sequence[NameRule],
    base_rate: float,
    factors: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Optimizer groups of the parameters that require a gradient, one for each pair of factor and decay.

    Groups stand in the order in which their first parameters come; `lr_scale` is the factor, that of the rule
    times that of the name in `factors`, 1 where there is none. Raises ValueError when a parameter matches no
    rule or all are frozen.
    """
    more = factors or {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            rule = next((rule for rule in rules if rule.fits(name, parameter)), None)
            if rule is None:
                raise ValueError(f"no rule for parameter {name}; rules: {[rule.pattern for rule in rules]}")
            factor = float(rule.factor) * more.get(name, 1.0)
            groups.setdefault((factor, rule.decay), []).append(parameter)
    if not groups:
        raise ValueError("no parameter to optimize: all are frozen")
    return [
        {"params": members, "lr": base_rate * factor, "lr_scale": factor, "weight_decay": decay}
        for (factor, decay), members in groups.items()
    ]
