import re

import numpy as np
import pytest

from datasets.drawn.languages import chinese
from datasets.drawn.languages.chinese import BAGS, BUILDS, COLOURS, HATS, LEGWEAR, SHOES, SHORT_COLOURS, TOPS
from datasets.drawn.people import CLOTH, GIRTH, HAIR, PATTERNS, SLEEVE

IN_WORDS = {
    "pattern": {
        "hoops": "(?<!宽)横条纹",
        "stripes": "竖条纹",
        "checks": "格子|格纹",
        "halves": "拼色|上半截",
        "band": "横杠|宽条纹",
    },
    "sleeve": {"bare": "无袖|背心", "short": "短袖", "long": "长袖"},
    "legwear": {"trousers": "长裤|裤子", "shorts": "短裤", "skirt": "短裙|及膝裙", "gown": "长裙"},
    "cut": {"short": "短发", "long": "长发", "bald": "光头|没有头发"},
    "bag": {"backpack": "双肩包|背包", "shoulder": "单肩包|挎包"},
    "build": {"slim": "瘦", "broad": "壮实|偏胖|敦实"},
}
# The noun behind a field's colour.
NOUNS = {
    "bottom": [name for names in LEGWEAR.values() for name in names],
    "shoes": SHOES,
    "hat": HATS,
    "hair": ("短发", "长发", "头发"),
    "bag_colour": [name for names in BAGS.values() for name in names],
}
WORDS = {word: colour for colour, words in COLOURS.items() for word in words}
COLOUR = "|".join(sorted(WORDS, key=len, reverse=True))
SHORT = {word: colour for colour, word in SHORT_COLOURS.items()}
MIXED = re.compile(f"([{''.join(SHORT)}])([{''.join(SHORT)}])相间")
FIELDS = ("top", "second", *NOUNS)


def colours(text):
    """All colours of the text, in order of names."""
    found = [SHORT[word] for pair in MIXED.findall(text) for word in pair]
    return sorted(found + [WORDS[word] for word in re.findall(COLOUR, text)])


@pytest.fixture(scope="module")
def pairs(told):
    return told("zh")


def test_a_sentence_tells_its_facts_and_nothing_else(pairs):
    for facts, text in pairs:
        for field, values in IN_WORDS.items():
            found = {value for value, words in values.items() if re.search(words, text)}
            assert found == ({facts[field]} if field in facts else set()), (field, text)
        assert colours(text) == sorted(facts[field] for field in FIELDS if field in facts), text
        for field, names in NOUNS.items():
            found = re.findall(f"({COLOUR})的?(?:{'|'.join(names)})", text)
            assert [WORDS[word] for word in found] == ([facts[field]] if field in facts else []), (
                field,
                text,
            )


def test_every_value_can_be_said():
    assert COLOURS.keys() == CLOTH.keys() | HAIR.keys()
    assert COLOURS.keys() >= SHORT_COLOURS.keys()
    assert TOPS.keys() == SLEEVE.keys() | {""}
    assert chinese.PATTERNS.keys() == chinese.WITH_SECOND.keys() == PATTERNS.keys() - {"plain"}
    assert BUILDS.keys() == GIRTH.keys() - {"medium"}
    assert len(WORDS) == sum(map(len, COLOURS.values()))  # no word for two colours
    assert all(word.endswith("色") for word in WORDS)


def test_sentences_are_chinese(pairs):
    for _, text in pairs:
        assert re.fullmatch("[\u4e00-\u9fff，。、]+", text), text
        assert text.endswith("。") and not re.search("[，。、]{2}|的的|色色", text), text
        assert text.count("。") <= 2


def test_measure_words_fit(pairs):
    texts = " ".join(text for _, text in pairs)
    things = {
        "件": [name for names in TOPS.values() for name in names],
        "条": NOUNS["bottom"],
        "双": SHOES,
        "顶": HATS,
        "个": NOUNS["bag_colour"],
    }
    for measure, names in things.items():
        for name in names:
            assert re.search(f"一{measure}(?:{COLOUR})?的?{name}", texts), (measure, name)
        others = "".join(things.keys() - {measure})
        assert not re.search(f"一[{others}](?:{COLOUR})?的?(?:{'|'.join(names)})", texts), measure


def test_pronouns_fit_the_nouns(pairs):
    texts = [text for _, text in pairs]
    assert any("。她" in text for text in texts) and any("。他" in text for text in texts)
    for text in texts:
        assert not ("她" in text and re.search("男", text))
        assert not ("他" in text and re.search("女", text))


def test_wordings_differ():
    facts = {
        "top": "red",
        "pattern": "hoops",
        "second": "white",
        "cut": "long",
        "bag": "backpack",
        "hat": "blue",
    }
    texts = {chinese.describe(facts, "woman", np.random.default_rng(number)) for number in range(200)}
    assert len(texts) > 180
    assert len({text[:3] for text in texts}) > 10
