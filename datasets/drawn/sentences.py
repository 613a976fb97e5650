"""Sentences about drawn people, as a witness would write them: some facts, in some order and wording."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from datasets.drawn.languages import LANGUAGES
from datasets.drawn.people import Person

# How often a sentence mentions what a person has. Skin is never mentioned, nor are the values in _USUAL.
_MENTIONED = {
    "top": 1.0,
    "pattern": 0.9,
    "second": 0.95,
    "sleeve": 0.6,
    "legwear": 0.95,
    "bottom": 0.97,
    "shoes": 0.6,
    "hair": 0.75,
    "cut": 0.75,
    "hat": 0.85,
    "bag": 0.85,
    "bag_colour": 0.9,
    "build": 0.4,
}
_USUAL = {"pattern": "plain", "build": "medium"}
_NEEDS = {"second": "pattern", "bottom": "legwear", "bag_colour": "bag"}  # not mentioned without that


def named_languages(codes: Sequence[str]) -> list[str]:
    """The codes, if they are languages other than English, each once; ValueError if not."""
    allowed = [code for code in LANGUAGES if code]
    for code in codes:
        if code not in allowed:
            raise ValueError(f"languages has {code!r}; allowed: {', '.join(allowed)}, next to English")
    if len(set(codes)) < len(codes):
        raise ValueError(f"languages is {', '.join(codes)}; allowed: each of them once")
    return list(codes)


def choose_facts(person: Person, rng: np.random.Generator) -> dict[str, str]:
    """Some of what is seen of the person, for a sentence: fields of `Person` with their values."""
    facts: dict[str, str] = {}
    for field, value in asdict(person).items():
        told = rng.random() < _MENTIONED.get(field, 0) and value not in ("none", _USUAL.get(field))
        if told and _NEEDS.get(field, field) in (field, *facts):
            facts[field] = value
    return facts


def choose_someone(facts: Mapping[str, str], rng: np.random.Generator) -> str:
    """'woman', 'man' or 'person', by hair and legwear: drawn people have nothing else to go by."""
    choices = ("person",)
    if {"cut", "legwear"} <= facts.keys():
        woman = facts["cut"] == "long" or facts["legwear"] in ("skirt", "gown")
        choices = ("woman", "woman", "person") if woman else ("man", "man", "person")
    return choices[int(rng.integers(len(choices)))]


def describe(facts: Mapping[str, str], rng: np.random.Generator, language: str = "") -> str:
    """One or two sentences that mention all facts of `choose_facts` and nothing else.

    The generator decides the wording: with another one the same facts give another description. `language`
    is a code of `LANGUAGES`; '' is English.
    """
    return LANGUAGES[language](facts, choose_someone(facts, rng), rng)


def write_sentences(
    person: Person, count: int, key: tuple[int, ...], languages: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Captions of one picture and their back translations, which follow from the key.

    `captions` and `captions_bt` are English. For each code in `languages`, `captions_<code>` and
    `captions_bt_<code>` say the same, caption by caption.
    """
    names = [
        f"{kind}_{code}".rstrip("_") for code in ("", *languages) for kind in ("captions", "captions_bt")
    ]
    texts: dict[str, list[str]] = {name: [] for name in names}
    for number in range(count):
        rng = np.random.default_rng((*key, number))
        facts = choose_facts(person, rng)
        others = {code: np.random.default_rng((*key, number, *code.encode())) for code in languages}
        for kind in ("captions", "captions_bt"):
            someone = choose_someone(facts, rng)
            texts[kind].append(LANGUAGES[""](facts, someone, rng))
            for code, draws in others.items():
                texts[f"{kind}_{code}"].append(LANGUAGES[code](facts, someone, draws))
    return texts
