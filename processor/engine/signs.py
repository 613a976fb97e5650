"""Signs by which a stage that learns nothing is known: means that are where they are without learning."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

Means = Mapping[str, float]


class Sign(NamedTuple):
    """A mean of an epoch by which a stage that learns nothing is known.

    `holds` decides from all means of the epoch, of which `name` is one, and the number of samples; `text`
    says what it means, `{value}` is the mean.
    """

    name: str
    holds: Callable[[Means, int], bool]
    text: str


def at(
    name: str,
    value: float,
    text: str,
    *,
    within: float = 0.005,
    unless: Callable[[Means], bool] | None = None,
) -> Sign:
    """The mean is at `value`, up to a share `within` of it, and the means are not as `unless` says."""

    def holds(means: Means, samples: int) -> bool:
        return abs(means[name] - value) <= within * value and not (unless and unless(means))

    return Sign(name, holds, text)


def at_chance(name: str, classes: int, text: str) -> Sign:
    """The share of right guesses among so many classes is no higher than chance explains."""
    chance = 1 / classes

    def holds(means: Means, samples: int) -> bool:
        return means[name] <= chance + 3 * math.sqrt(chance * (1 - chance) / samples)

    return Sign(name, holds, text)
