import itertools
import re

import numpy as np
import pytest

from datasets.drawn.languages import russian, russian_words
from datasets.drawn.languages.russian import along
from datasets.drawn.languages.russian_words import (
    BAGS,
    BUILDS,
    CASES,
    COLOURS,
    CUTS,
    HAIR,
    HATS,
    HEAD,
    JOINED,
    LEGWEAR,
    SHOES,
    TOPS,
    Noun,
    Phrase,
    decline,
)
from datasets.drawn.people import CLOTH, GIRTH, PATTERNS, SLEEVE
from datasets.drawn.people import HAIR as DRAWN_HAIR

IN_WORDS = {
    "pattern": {
        "hoops": "горизонтальн",
        "stripes": "вертикальн",
        "checks": "клетк|клетчат",
        "halves": "верхом",
        "band": "груди",
    },
    "sleeve": {
        "bare": "майк|без рукавов",
        "short": r"футболк(?!.*рукав)|коротким(и)? рукав",
        "long": r"длинным рукавом|длинными рукавами",
    },
    "legwear": {
        "trousers": "брюк|штан",
        "shorts": "шорт",
        "skirt": "юбк",
        "gown": r"длинн\w+ (\S+ )?юбк|до щиколоток|в пол",
    },
    "cut": {"short": r"коротк\w+ (\S+ )?волос", "long": r"длинн\w+ (\S+ )?волос", "bald": "голов[аоы]й?"},
    "bag": {"backpack": "рюкзак", "shoulder": "сумк"},
    "build": {"slim": "худ|стройн", "broad": "плотн|полн|крупн"},
}


def forms(adjective):
    return {decline(adjective, gender, case) for gender in "mfp" for case in CASES}


def every_noun():
    tops = [noun for kinds in TOPS.values() for noun, *_ in kinds]
    legs = [phrase.noun for phrases in LEGWEAR.values() for phrase in phrases]
    people = [noun for someone in russian_words.PEOPLE.values() for noun in someone.nouns]
    return {*tops, *legs, *people, *SHOES, *HATS, *BAGS.values(), *HEAD.values()}


def every_adjective():
    tables = [*COLOURS.values(), *HAIR.values(), *CUTS.values(), *BUILDS.values()]
    return {*itertools.chain(*tables), "двухцветный", "клетчатый", "горизонтальный", "вертикальный"}


def told_of(facts, fields):
    return [facts[field] for field in fields if field in facts]


COLOUR_FORMS = {form: name for name, words in COLOURS.items() for word in words for form in forms(word)}
HAIR_FORMS = {form: name for name, words in HAIR.items() for word in words for form in forms(word)}


@pytest.fixture(scope="module")
def pairs(told):
    return told("ru")


def test_adjectives_are_declined():
    table = {
        "красный": {
            "m": "красный красного красный красном красным",
            "f": "красная красной красную красной красной",
            "p": "красные красных красные красных красными",
        },
        "голубой": {
            "m": "голубой голубого голубой голубом голубым",
            "f": "голубая голубой голубую голубой голубой",
            "p": "голубые голубых голубые голубых голубыми",
        },
        "тёмно-синий": {
            "m": "тёмно-синий тёмно-синего тёмно-синий тёмно-синем тёмно-синим",
            "f": "тёмно-синяя тёмно-синей тёмно-синюю тёмно-синей тёмно-синей",
            "p": "тёмно-синие тёмно-синих тёмно-синие тёмно-синих тёмно-синими",
        },
        "короткий": {
            "m": "короткий короткого короткий коротком коротким",
            "f": "короткая короткой короткую короткой короткой",
            "p": "короткие коротких короткие коротких короткими",
        },
    }
    for adjective, genders in table.items():
        for gender, expected in genders.items():
            assert [decline(adjective, gender, case) for case in CASES] == expected.split()
    soft = {word for word in every_adjective() if word.endswith("ий")}
    assert soft == {"синий", "тёмно-синий", "короткий"}  # no other needs endings of its own
    assert {word[-2:] for word in every_adjective()} == {"ый", "ий", "ой"}


def test_a_phrase_agrees():
    trousers, cap = LEGWEAR["trousers"][0].noun, HATS[1]
    assert Phrase(("синий",), trousers).put("prepositional") == "синих брюках"
    assert Phrase(("длинный", "чёрный"), HEAD["hair"]).put("instrumental") == "длинными чёрными волосами"
    assert Phrase(("голубой",), cap).put("genitive") == "голубой кепки"
    assert Phrase(("белый",), BAGS["shoulder"], "на плече").put("accusative") == "белую сумку на плече"


def test_nouns_have_all_cases():
    for noun in every_noun():
        assert isinstance(noun, Noun) and noun.gender in "mfp" and len(noun.forms) == len(CASES), noun
        stems = {form[:3] for form in noun.forms}
        assert len(stems) == 1 or noun.forms[0] == "парень", noun


def test_every_value_can_be_said():
    assert COLOURS.keys() == CLOTH.keys()
    assert COLOURS.keys() >= JOINED.keys()
    assert HAIR.keys() == DRAWN_HAIR.keys()
    assert TOPS.keys() == SLEEVE.keys() | {""}
    assert IN_WORDS["pattern"].keys() == PATTERNS.keys() - {"plain"}
    assert BUILDS.keys() == GIRTH.keys() - {"medium"}
    words = list(itertools.chain(*COLOURS.values()))
    assert len(words) == len(set(words))  # no word for two colours


def test_a_sentence_tells_its_facts_and_nothing_else(pairs):
    for facts, text in pairs:
        for field, values in IN_WORDS.items():
            found = {value for value, words in values.items() if re.search(rf"\b({words})", text.lower())}
            found -= {"skirt"} if "gown" in found else set()
            assert found == ({facts[field]} if field in facts else set()), (field, text)


def test_colours_stand_at_their_things(pairs):
    things = {"bottom": "брюк|штан|шорт|юбк", "shoes": "кроссовк|ботинк|обув", "hat": "шапк|кепк|бейсболк"}
    things |= {"hair": "волос", "bag_colour": "рюкзак|сумк"}
    for facts, text in pairs:
        for field, stems in things.items():
            found = re.findall(rf"(\S+) (?:{stems})", text.lower())
            table = HAIR_FORMS if field == "hair" else COLOUR_FORMS
            assert [table[word] for word in found if word in table] == told_of(facts, [field]), (field, text)


def test_all_colours_are_those_of_the_facts(pairs):
    starts = {start: colour for colour, start in JOINED.items()}
    for facts, text in pairs:
        found = []
        for word in re.findall(r"[\w-]+", re.sub(r"\S+ волос", "", text.lower())):
            start, _, end = word.partition("-")
            if start in starts and end in COLOUR_FORMS:
                found += [starts[start], COLOUR_FORMS[end]]
            elif word in COLOUR_FORMS:
                found.append(COLOUR_FORMS[word])
        fields = ("top", "second", "bottom", "shoes", "hat", "bag_colour")
        assert sorted(found) == sorted(told_of(facts, fields)), text


def test_words_agree(pairs):
    """Each adjective stands before a noun, or another adjective, with which it shares a gender and a case."""
    signs = {}
    for adjective in every_adjective():
        starts = ["", *(f"{start}-" for start in JOINED.values())] if "-" not in adjective else [""]
        for gender, case, start in itertools.product("mfp", CASES, starts):
            signs.setdefault(f"{start}{decline(adjective, gender, case)}", set()).add((gender, case))
    nouns = {}
    inner = [
        russian_words.LINE,
        russian_words.LINES,
        russian_words.BAND,
        russian_words.CHECK,
        russian_words.UPPER,
        russian_words.LOWER,
    ]
    for noun in (*every_noun(), *inner):
        for case, form in zip(CASES, noun.forms, strict=True):
            nouns.setdefault(form, set()).add((noun.gender, case))
    nouns |= {
        "телосложения": {("m", "genitive")},
        "рукавом": {("m", "instrumental")},
        "рукавами": {("p", "instrumental")},
    }
    checked = 0
    for _, text in pairs:
        words = re.findall(r"[\w-]+", text.lower())
        for word, after in itertools.pairwise(words):
            if word in signs and word not in nouns:
                assert signs[word] & (signs.get(after, set()) | nouns.get(after, set())), (word, after, text)
                checked += 1
    assert checked > 4000


def test_prepositions_govern_their_cases(pairs):
    governed = {
        "на": "prepositional",
        "под": "instrumental",
        "из-под": "genitive",
        "у": "genitive",
        "с": "instrumental",
        "со": "instrumental",
        "одет в": "accusative",
        "одета в": "accusative",
        "обут в": "accusative",
        "обута в": "accusative",
    }
    adjectives = {form for adjective in every_adjective() for form in forms(adjective)}
    adjectives -= {form for noun in every_noun() for form in noun.forms}
    cases = {}
    for noun in every_noun():
        for case, form in zip(CASES, noun.forms, strict=True):
            cases.setdefault(form, set()).add(case)
    seen = dict.fromkeys(governed, 0)
    for _, text in pairs:
        for start in governed:
            for words in re.findall(rf"\b(?<!-){start} ([\w -]+)", text.lower()):
                noun = next(word for word in words.split() if word not in adjectives)
                if noun in cases:
                    assert governed[start] in cases[noun], (start, noun, text)
                    seen[start] += 1
    assert all(seen.values()), seen


def test_participles_and_pronouns_agree(pairs):
    for _, text in pairs:
        woman = re.search("женщин|девушк", text.lower()) is not None
        for words in re.findall(r"\b(одета?|обута?|неё|ней|него|нём)\b", text.lower()):
            assert (words in ("одета", "обута", "неё", "ней")) == woman, text


def test_sentences_are_russian(pairs):
    for _, text in pairs:
        assert re.fullmatch(r"[А-ЯЁа-яё ,.-]+", text), text
        assert text.endswith(".") and not re.search(r"  | [,.]|[,.]{2}|\. [а-яё]|^[а-яё]", text), text
        assert not re.search(r"\bс (?:[сзшж][бвгдзйклмнпрстфхцчшщ])", text.lower()), text
        assert not re.search(r"\bв (?:[вф][бвгдзйклмнпрстфхцчшщ])", text.lower()), text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("светлыми волосами", "со светлыми волосами"),
        ("синей сумкой", "с синей сумкой"),
        ("зелёным рюкзаком", "с зелёным рюкзаком"),
        ("рюкзаком", "с рюкзаком"),
    ],
)
def test_with_is_said_as_the_next_word_needs_it(words, expected):
    assert along(words) == expected


def test_wordings_differ():
    facts = {
        "top": "red",
        "pattern": "hoops",
        "second": "white",
        "cut": "long",
        "bag": "backpack",
        "hat": "blue",
    }
    texts = {russian.describe(facts, "woman", np.random.default_rng(number)) for number in range(200)}
    assert len(texts) > 180
    assert len({" ".join(text.split()[:2]) for text in texts}) > 10
