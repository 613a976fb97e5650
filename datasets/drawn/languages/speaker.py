"""The base of speakers of all languages: facts about a person, and draws that decide how they are said."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

_Choice = TypeVar("_Choice")


class Speaker:
    """Facts about a person (fields of `Person` with their values), and the generator of their wording."""

    def __init__(self, facts: Mapping[str, str], rng: np.random.Generator) -> None:
        self.facts, self.rng = facts, rng

    def pick(self, choices: Sequence[_Choice]) -> _Choice:
        """One of the choices."""
        return choices[int(self.rng.integers(len(choices)))]

    def shuffle(self, items: Sequence[_Choice]) -> list[_Choice]:
        """The items in some order."""
        return [items[int(place)] for place in self.rng.permutation(len(items))]
