import numpy as np
import pytest

from datasets.drawn.people import WINTER, draw_people
from datasets.drawn.sentences import choose_facts, describe

PEOPLE = [*draw_people(150, np.random.default_rng(5)), *draw_people(100, np.random.default_rng(6), WINTER)]


@pytest.fixture(scope="session")
def told():
    """A function from a language to pairs of facts and a sentence about them."""

    def tell(language):
        pairs = []
        for index, person in enumerate(PEOPLE * 4):
            rng = np.random.default_rng(index)
            facts = choose_facts(person, rng)
            pairs.append((facts, describe(facts, rng, language)))
        return pairs

    return tell
