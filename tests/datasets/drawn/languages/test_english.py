import re

import numpy as np
import pytest

from datasets.drawn.people import CLOTH, HAIR, Person, draw_people
from datasets.drawn.sentences import choose_facts, describe

PEOPLE = draw_people(150, np.random.default_rng(5))
FACTS = {
    "top": "red",
    "pattern": "hoops",
    "second": "white",
    "sleeve": "long",
    "legwear": "trousers",
    "bottom": "blue",
    "shoes": "black",
    "hair": "blond",
    "cut": "long",
    "hat": "pink",
    "bag": "backpack",
    "bag_colour": "green",
    "build": "slim",
}

COLOURS = {name: name for name in (*CLOTH, *HAIR)} | {
    "grey": "(grey|gray)",
    "sky": "(light|sky) blue",
    "blue": "(?<!light )(?<!sky )blue",
    "purple": "(purple|violet)",
}
ANY = f"({'|'.join(COLOURS.values())})"
TOP = "((horizontally|vertically) striped |checked )?(shirt|t-shirt|top)"
IN_COLOUR = {  # the words around a field's colour
    "top": rf"(?<!and ){{}} (and {ANY} )?{TOP}",
    "second": rf"and {{}} {TOP}|half in {{}}|that is {{}} at|{{}} band|stripe in {{}}",
    "bottom": "{} (long |short |knee-length |ankle-length )?(trousers|pants|shorts|skirt)",
    "shoes": "{} (shoes|sneakers)",
    "hat": "{} (hat|cap)",
    "hair": "{} hair",
    "bag_colour": "{} (backpack|rucksack|handbag|shoulder bag|bag)",
}
IN_WORDS = {
    "pattern": {
        "hoops": "horizontal",
        "stripes": "vertical",
        "checks": "check",
        "halves": "two-part|in two parts|lower half|at the bottom",
        "band": "chest",
    },
    "sleeve": {"bare": "sleeveless", "short": "short-sleeve", "long": "long-sleeve"},
    "legwear": {
        "trousers": "trousers|(?<!short )pants",
        "shorts": "shorts|short pants",
        "skirt": "(?<!long )(?<!ankle-length )skirt",
        "gown": "(long|ankle-length) skirt",
    },
    "cut": {
        "short": rf"short ({ANY} )?hair",
        "long": rf"long ({ANY} )?hair",
        "bald": "bald|no hair",
    },
    "bag": {"backpack": "backpack|rucksack", "shoulder": "shoulder|handbag"},
    "build": {"slim": "slim|thin", "broad": "stocky|heavyset"},
}
WORDS = IN_WORDS | {
    field: {name: form.replace("{}", colour) for name, colour in COLOURS.items()}
    for field, form in IN_COLOUR.items()
}


def told(text: str) -> dict[str, set[str]]:
    """Fields of `Person` -> the values of which the text has a word."""
    found = {
        field: {value for value, words in values.items() if re.search(rf"\b({words})", text)}
        for field, values in WORDS.items()
    }
    return {field: values for field, values in found.items() if values}


@pytest.fixture(scope="module")
def sentences():
    """Person, facts, text."""
    return [(person, *sentence(person, index)) for index, person in enumerate(PEOPLE * 4)]


def sentence(person: Person, seed: int):
    rng = np.random.default_rng(seed)
    facts = choose_facts(person, rng)
    return facts, describe(facts, rng)


def test_a_sentence_tells_its_facts_and_nothing_else(sentences):
    for _, facts, text in sentences:
        assert told(text) == {field: {value} for field, value in facts.items()}, text


def test_wordings_differ():
    texts = {describe(FACTS, np.random.default_rng(number)) for number in range(200)}
    assert len(texts) > 190
    starts = {" ".join(text.split()[:2]) for text in texts}
    assert len(starts) > 10
    for some in (("woman", "person"), ("wear", "dressed in"), ("hat", "cap"), ("backpack", "rucksack")):
        for word in some:
            assert any(word in text for text in texts)
    order = [
        text.find("shoes") < text.find("shirt") for text in texts if {"shoes", "shirt"} <= set(text.split())
    ]
    assert 0 < np.mean(order) < 1


@pytest.mark.parametrize(
    ("changed", "nouns"),
    [
        ({"cut": "long", "legwear": "shorts"}, "woman|lady|person|pedestrian"),
        ({"cut": "bald", "legwear": "skirt"}, "woman|lady|person|pedestrian"),
        ({"cut": "short", "legwear": "trousers"}, "man|guy|person|pedestrian"),
        ({"cut": None}, "person|pedestrian"),
    ],
)
def test_nouns_follow_hair_and_legwear(changed, nouns):
    facts = {field: value for field, value in (FACTS | changed).items() if value}
    for number in range(50):
        text = describe(facts, np.random.default_rng(number)).lower()
        found = re.findall(r"\b(woman|lady|man|guy|person|pedestrian)\b", text)
        assert len(found) == 1 and found[0] in nouns.split("|")


def test_they_is_followed_by_the_plural(sentences):
    texts = [text for _, _, text in sentences]
    assert any("They " in text for text in texts)
    for text in texts:
        assert not re.search(r"They (has|wears|is|carries)|(She|He) (have|wear|are|carry)\b", text)


def test_articles_fit(sentences):
    for _, _, text in sentences:
        for article, letter in re.findall(r"\b(an?) (\w)", text.lower()):
            assert (article == "an") == (letter in "aeiou"), text


def test_one_fact_is_enough():
    text = {describe({"top": "orange"}, np.random.default_rng(number)) for number in range(40)}
    assert all(told(each) == {"top": {"orange"}} for each in text)
