"""Which identity has which phrase, and wrong files of phrases."""

import json
import re

import pytest

from datasets.records import ImageRecord
from datasets.subjects import read_subjects
from utils.labels import LabelTexts


@pytest.fixture
def read(tmp_path):
    """read({"7": "girl"}, "007", …) -> the phrase of each identity, or the noun."""

    def read(content, *identities):
        path = tmp_path / "phrases.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        texts = [LabelTexts(identity=identity) for identity in identities]
        records = [ImageRecord(f"{n}.jpg", n, 0, 0, texts=text) for n, text in enumerate(texts)]
        return read_subjects(path, records, "person")

    return read


@pytest.mark.parametrize(
    ("phrases", "identities", "wanted"),
    [
        ({"0002": "man", "3": "girl"}, ("0002", "0003", "0004"), ["man", "girl", "person"]),
        ({"7": "girl"}, ("007", "7", "8"), ["person", "girl", "person"]),
        ({"7": "girl", "007": "spy"}, ("007", "7"), ["spy", "girl"]),
        ({"2": "man", "0002": "girl"}, ("0002",), ["girl"]),
        ({"0": "man"}, ("000", "0a"), ["man", "person"]),
        ({"a": "man", "0b": "girl", "c": "boy"}, ("0a", "b", "c"), ["person", "person", "boy"]),
        ({"2": "man", "00b": "girl"}, ("0002", "00b"), ["man", "girl"]),
    ],
)
def test_the_same_text_comes_before_the_same_number(read, phrases, identities, wanted):
    assert read(phrases, *identities) == wanted


@pytest.mark.parametrize(
    ("phrases", "identities", "told"),
    [
        ({"2": "man", "02": "girl"}, ("0002",), "has '02', '2' for the training identities '0002'"),
        ({"07": "girl"}, ("7", "007"), "has '07' for the training identities '007', '7'"),
    ],
)
def test_a_number_that_is_not_clear(read, phrases, identities, told):
    with pytest.raises(ValueError, match=rf"phrases\.json {re.escape(told)}; allowed: identities as the"):
        read(phrases, *identities)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[" * 100_000, "recursion limit"),
        ('{"1": ' * 100_000, "recursion limit"),
        ('{"1": "man"', "EOF"),
        ('["man"]', "allowed: an object"),
        ({"1": 2}, "1 is 2; allowed: a valid string"),
        ({"1": " "}, "1 is ' '; allowed: a noun phrase"),
        ({"9": "man"}, "no phrase for an identity of the training split; its identities are 9"),
    ],
)
def test_wrong_files(read, content, told):
    with pytest.raises(ValueError, match=rf"phrases\.json.*{told}") as error:
        read(content, "1")
    assert "\n" not in str(error.value)


def test_a_byte_order_mark(read):
    assert read('\ufeff{"1": "man"}', "1") == ["man"]
