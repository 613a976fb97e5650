"""Attributes of people in published files and own tables, and their sentences."""

import hashlib
import json
import logging
import re

import numpy as np
import pytest
from scipy.io import savemat

from datasets import read_attributes, templates
from datasets.attributes import _WORDS, COLUMNS, Person, read_duke_attributes, read_market_attributes
from tests.conftest import GOLDEN, REPOSITORY

MARKET = GOLDEN / "prompts" / "market_attribute.mat"
DUKE_UP = ("black", "white", "red", "purple", "gray", "blue", "green", "brown")
DUKE_WORN = "gray short top, blue bottoms, light shoes"
DUKE_DOWN = ("black", "white", "red", "gray", "blue", "green", "brown")


@pytest.fixture(scope="module")
def stored():
    return json.loads((GOLDEN / "prompts" / "sentences.json").read_text())


def test_sentences_are_the_published_ones(stored):
    people = read_market_attributes(MARKET)
    assert [person.identity for person in people] == stored["identities"]
    assert [templates(person, i) for i, person in enumerate(people)] == [[text] for text in stored["plain"]]
    augmented = [templates(person, i, augmented=True) for i, person in enumerate(people)]
    assert augmented[:2] == stored["augmented_first"] and {len(some) for some in augmented} == {56}
    hashes = [hashlib.sha256("\n".join(some).encode()).hexdigest() for some in augmented]
    assert hashes == stored["augmented_sha256"]


def test_fields_are_read_by_name(tmp_path, stored):
    """The split train has them in another order, and so may any file."""
    train = read_market_attributes(MARKET, "train")
    assert (len(train), train[0].identity) == (40, "0011")
    assert train[0].traits["age"] == "old" and train[0].traits["down_colour"] == "black"
    assert train[0].traits["up_colour"] == "other" and train[0].traits["bag"] == "yes"


def duke(people=2, **changes):
    """The fields of `duke_attribute.mat`: all values 1, but for the changes."""
    names = ("gender", "top", "boots", "shoes", "hat", "backpack", "bag", "handbag")
    names += tuple(f"up{colour}" for colour in DUKE_UP) + tuple(f"down{colour}" for colour in DUKE_DOWN)
    fields = {name: np.ones((1, people), np.uint8) for name in names} | {
        name: np.array([value]) for name, value in changes.items() if value is not None
    }
    index = np.empty((1, people), object)
    index[0] = [f"{number:04d}" for number in range(1, people + 1)]
    fields["image_index"] = index
    return {name: value for name, value in fields.items() if name not in changes or changes[name] is not None}


def save(path, **variables):
    savemat(path, variables)
    return path


def test_duke(tmp_path):
    changes = {"upgray": [2, 1], "downblue": [2, 1], "boots": [1, 2], "shoes": [2, 1], "hat": [1, 2]}
    split = duke(**changes, backpack=[2, 1], handbag=[2, 1], gender=[2, 1])
    path = save(tmp_path / "duke_attribute.mat", duke_attribute={"train": split, "test": split})
    people = read_attributes(path)
    assert people == read_duke_attributes(path) and [person.identity for person in people] == ["0001", "0002"]
    assert [templates(person, i) for i, person in enumerate(people)] == [
        [f"a female person no.0 with {DUKE_WORN}, carrying a backpack, a handbag."],
        ["a male person no.1 with other short top, other bottoms, dark boots, wearing a hat."],
    ]
    first = templates(people[0], 0, augmented=True)[4]
    assert first == (
        f"itap of a female person no.0 on my left or right side with {DUKE_WORN}, "
        "carrying a backpack and a handbag, wearing nothing on head"
    )
    with pytest.raises(ValueError, match="duke_attribute; allowed: a file with market_attribute"):
        read_market_attributes(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"top": None}, ["has no field top", "gender"]),
        ({"upbrown": None}, ["has no field upbrown"]),
        ({"image_index": None}, ["has no field image_index"]),
        ({"hat": [1, 3]}, ["test.hat has the value 3", "1 to 2"]),
        ({"hat": [1, 1.5]}, ["test.hat has the value 1.5"]),
        ({"hat": [1, np.nan]}, ["test.hat has the value nan"]),
        ({"hat": [1]}, ["test.hat", "2 people"]),
        ({"hat": "yes"}, ["test.hat", "one number"]),
    ],
)
def test_damaged_published_files(tmp_path, changes, told):
    path = save(tmp_path / "a.mat", duke_attribute={"test": duke(**changes)})
    with pytest.raises(ValueError) as error:
        read_attributes(path)
    assert all(text in str(error.value) for text in [str(path), *told])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"other": [1.0]}, "holds other; allowed: a file with market_attribute or duke_attribute"),
        ({"duke_attribute": [1.0]}, "duke_attribute is no struct"),
        ({"duke_attribute": {"train": duke()}}, "has no field test; it has train"),
        ({"duke_attribute": {"test": 3.0}}, "duke_attribute.test is no struct"),
        ({"duke_attribute": {"test": duke(0)}}, "0 people"),
        ({"duke_attribute": {"test": duke() | {"image_index": [1, 2]}}}, "allowed: cells of text"),
    ],
)
def test_mat_files_of_another_form(tmp_path, content, told):
    path = save(tmp_path / "a.mat", **content)
    with pytest.raises(ValueError, match=told) as error:
        read_attributes(path)
    assert str(path) in str(error.value)


def table(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_an_own_table_of_attributes(tmp_path, caplog):
    path = table(
        tmp_path / "people.csv",
        "identity,gender,up_colour,up,hat,bag,backpack,down_colour,clothes,shoes,weather",
        "7,male,orange,short,yes,yes,no,,,,rain",
        "b,,green,,,,,blue,dress,light,",
        "c,,,,,,,,,,",
    )
    with caplog.at_level(logging.INFO):
        people = read_attributes(path)
    assert "1 columns are not read: 'weather'" in caplog.text and "3 people" in caplog.text
    assert [templates(person, i) for i, person in enumerate(people)] == [
        ["a male person no.0 with orange short sleeve, wearing a hat, carrying a bag."],
        ["a person no.1 with green top, blue dress, light shoes, ."],
        ["a person no.2, ."],
    ]
    texts = [templates(person, i, augmented=True) for i, person in enumerate(people)]
    assert texts[0][9] == (
        "a bad photo of the male person no.0 walking with orange short sleeve, wearing a hat, carrying a bag"
    )
    assert texts[1][33] == "a person no.1 walking with green top, blue dress, light shoes in a video game"
    assert [len(some) for some in texts] == [56] * 3


def test_every_column_says_something():
    """No attribute of an own table is read and then ignored."""
    words = {"up_colour": "red", "down_colour": "red", "age": "old", "gender": "male", "shoes": "dark"}
    words |= dict.fromkeys(("hair", "up", "top", "down"), "long") | {"clothes": "dress"}
    known = {column: words.get(column, "yes") for column in COLUMNS}
    for augmented in (False, True):
        whole = templates(Person("1", known), 0, augmented)
        for column in COLUMNS:
            less = {name: word for name, word in known.items() if name != column}
            assert templates(Person("1", less), 0, augmented) != whole, column


def test_an_own_table_of_sentences(tmp_path):
    path = table(tmp_path / "people.csv", "sentence,identity", '"A man, with a hat",1', "Ein Fahrrad,x")
    people = read_attributes(path)
    assert [templates(person, 5) for person in people] == [["A man, with a hat"], ["Ein Fahrrad"]]
    with pytest.raises(ValueError, match="'1' has a sentence of its own"):
        templates(people[0], 0, augmented=True)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["pid,gender", "1,male"], [":1", "identity"]),
        (["identity,gender", "1,Male"], [":2", "gender is 'Male'", "male, female"]),
        (["identity,age", "1,young", "2,13"], [":3", "age is '13'", "young, teenager, adult, old"]),
        (["identity,hat", "1,2"], [":2", "hat is '2'", "no, yes"]),
        (["identity,up_colour", "1,nan"], [":2", "up_colour is 'nan'"]),
        (["identity,weather", "1,rain"], ["neither", "sentence", "up_colour"]),
        (["identity,sentence,hat", "1,A man.,yes"], ["sentence and hat"]),
        (["identity,sentence", "1,"], [":2", "sentence is empty"]),
        (["identity,hat", ",yes"], [":2", "identity is empty"]),
        (["identity,hat", "1,yes", "2,no", "1,no"], [":4", "'1' comes twice"]),
        (["identity,hat"], ["0 people"]),
    ],
)
def test_wrong_own_tables(tmp_path, lines, told):
    path = table(tmp_path / "people.csv", *lines)
    with pytest.raises(ValueError) as error:
        read_attributes(path)
    assert all(text in str(error.value) for text in [str(path), *told])


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match=r"people\.txt; allowed: files that end in \.mat or \.csv"):
        read_attributes(tmp_path / "people.txt")
    for name in ("a.mat", "a.csv"):
        with pytest.raises(FileNotFoundError, match=name):
            read_attributes(tmp_path / name)


def test_the_examples_of_the_page(tmp_path, stored):
    """docs/zero_shot.md shows sentences, a table and its words."""
    page = (REPOSITORY / "docs" / "zero_shot.md").read_text()
    published, own_duke, table_lines = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert set(published.splitlines()) <= set(stored["plain"])
    assert own_duke.strip() == f"a female person no.0 with {DUKE_WORN}, carrying a backpack, a handbag."
    (tmp_path / "people.csv").write_text(table_lines)
    assert len(read_attributes(tmp_path / "people.csv")) == 1
    rows = re.findall(r"^\| (`.*) \| (.*) \|$", page.partition("## Your own")[2].partition("## Old")[0], re.M)
    told = {name: set(words.split(", ")) for names, words in rows for name in re.findall(r"`(\w+)`", names)}
    assert told.keys() == set(COLUMNS)
    assert all(told[name] == set(words) for name, words in _WORDS.items())
