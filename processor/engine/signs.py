"""Signs by which a stage that learns nothing is known: means that are where they are without learning."""

import math
from collections.abc import Callable
from typing import NamedTuple


class Sign(NamedTuple):
    """A value of an epoch's means by which a stage that learns nothing is known.

    `holds` decides from the mean and the number of samples; `text` says what it means, `{value}` is the mean.
    """

    name: str
    holds: Callable[[float, int], bool]
    text: str


def at(name: str, value: float, text: str, *, within: float = 0.01) -> Sign:
    """The mean is at `value`, up to a share `within` of it."""
    return Sign(name, lambda mean, samples: abs(mean - value) <= within * value, text)


def at_chance(name: str, classes: int, text: str) -> Sign:
    """The share of right guesses among so many classes is no higher than chance explains."""
    chance = 1 / classes

    def holds(mean: float, samples: int) -> bool:
        return mean <= chance + 3 * math.sqrt(chance * (1 - chance) / samples)

    return Sign(name, holds, text)
