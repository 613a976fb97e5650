import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest

from datasets.drawn.languages import LANGUAGES
from datasets.drawn.people import WINTER, draw_people
from datasets.drawn.sentences import choose_facts, choose_someone, describe, named_languages, write_sentences

PEOPLE = draw_people(150, np.random.default_rng(5))
OTHERS = draw_people(150, np.random.default_rng(6), WINTER)
# Digest of the English sentences before there were other languages.
ENGLISH = "24e5f64ca2efb1bd"


def test_facts_are_true_and_some_are_left_out():
    found = []
    for index, person in enumerate(PEOPLE * 4):
        facts = choose_facts(person, np.random.default_rng(index))
        assert facts.items() <= dataclasses.asdict(person).items()
        assert "none" not in facts.values()
        assert "top" in facts
        found.append(facts)
    for field in {field for facts in found for field in facts} - {"top"}:
        share = np.mean([field in facts for facts in found])
        assert 0.1 < share < 0.98, field


@pytest.mark.parametrize(
    ("facts", "allowed"),
    [
        ({"cut": "long", "legwear": "shorts"}, {"woman", "person"}),
        ({"cut": "bald", "legwear": "skirt"}, {"woman", "person"}),
        ({"cut": "short", "legwear": "trousers"}, {"man", "person"}),
        ({"cut": "long"}, {"person"}),
        ({"legwear": "gown"}, {"person"}),
    ],
)
def test_who_it_is_follows_from_hair_and_legwear(facts, allowed):
    assert {choose_someone(facts, np.random.default_rng(number)) for number in range(40)} == allowed


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_generator_decides(language):
    facts = choose_facts(PEOPLE[0], np.random.default_rng(0))
    first, again, other = (describe(facts, np.random.default_rng(seed), language) for seed in (1, 1, 2))
    assert first == again != other


def test_english_stays_as_it_was():
    texts = [write_sentences(person, 3, (1, 2, index)) for index, person in enumerate([*PEOPLE, *OTHERS])]
    assert hashlib.sha256(json.dumps(texts).encode()).hexdigest().startswith(ENGLISH)


def test_further_languages_change_neither_english_nor_each_other():
    english = write_sentences(PEOPLE[3], 4, (1, 2))
    chinese = write_sentences(PEOPLE[3], 4, (1, 2), ["zh"])
    all_three = write_sentences(PEOPLE[3], 4, (1, 2), ["ru", "zh"])
    assert english.keys() == {"captions", "captions_bt"}
    assert chinese.keys() == english.keys() | {"captions_zh", "captions_bt_zh"}
    assert all_three.keys() == chinese.keys() | {"captions_ru", "captions_bt_ru"}
    assert english.items() <= chinese.items() <= all_three.items()
    assert {len(texts) for texts in all_three.values()} == {4}
    fewer = write_sentences(PEOPLE[3], 2, (1, 2), ["ru", "zh"])
    assert fewer == {name: texts[:2] for name, texts in all_three.items()}


def test_captions_of_one_number_have_the_same_facts(monkeypatch):
    heard = {}

    def listen(code):
        def describe(facts, someone, rng):
            heard.setdefault(code, []).append((dict(facts), someone))
            return "…"

        return describe

    monkeypatch.setattr("datasets.drawn.sentences.LANGUAGES", {code: listen(code) for code in LANGUAGES})
    for index, person in enumerate(PEOPLE[:40]):
        write_sentences(person, 2, (index,), ["zh", "ru"])
    assert len(heard[""]) == 160
    assert heard[""] == heard["zh"] == heard["ru"]


def test_back_translations_have_other_words():
    texts = [write_sentences(person, 1, (index,), ["zh", "ru"]) for index, person in enumerate(PEOPLE)]
    for code in ("", "_zh", "_ru"):
        assert np.mean([text[f"captions{code}"] == text[f"captions_bt{code}"] for text in texts]) < 0.02


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (["zh", "de"], "languages has 'de'; allowed: zh, ru, next to English"),
        ([""], "languages has ''; allowed: zh, ru, next to English"),
        (["zh", "ru", "zh"], "languages is zh, ru, zh; allowed: each of them once"),
    ],
)
def test_other_languages_are_refused(codes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        named_languages(codes)
