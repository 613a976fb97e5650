import logging

import pytest

from datasets.vehicle_types import read_type_phrases

TYPES = "1 sedan\n\n2  sport utility   vehicle \r\n7 bus\n"


@pytest.fixture
def phrases(tmp_path):
    """phrases((image, vehicle, type), …) reads label files with these items; None: no such attribute."""

    def read(*items, types=TYPES):
        rows = ""
        for item in items:
            named = zip(("imageName", "vehicleID", "typeID"), item, strict=True)
            words = [f'{name}="{value}"' for name, value in named if value is not None]
            rows += f"<Item cameraID='c001' {' '.join(words)}/>\n"
        text = f'<?xml version="1.0" encoding="gb2312"?>\n<T note="车"><Items>\n{rows}</Items></T>'
        (tmp_path / "train_label.xml").write_bytes(text.encode("gb2312"))
        (tmp_path / "list_type.txt").write_text(types)
        return read_type_phrases(tmp_path / "train_label.xml", tmp_path / "list_type.txt")

    return read


def test_whole_names_by_identity_in_order(phrases):
    found = phrases(("0012_c1.jpg", "0012", "2"), ("0002_c1.jpg", None, "1"), (None, "776", "07"))
    assert list(found.items()) == [
        ("0002", "sedan, a type of vehicle"),
        ("0012", "sport utility vehicle, a type of vehicle"),
        ("0776", "bus, a type of vehicle"),
    ]


def test_the_most_frequent_type_counts_and_unknown_ones_are_left_out(phrases, caplog):
    votes = [("2", "1"), ("2", "7"), ("2", "7"), ("3", "0"), ("4", ""), ("5", None), ("6", "0"), ("6", "1")]
    votes += [("9", "7"), ("9", "1")]
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        found = phrases(*(("", identity, kind) for identity, kind in votes))
    assert {identity: phrase.split(",")[0] for identity, phrase in found.items()} == {
        **{"0002": "bus", "0006": "sedan"},
        "0009": "bus",  # as often as the other, and the first in the file
    }
    assert "3 identities with a type, 2 of them with several" in caplog.text
    assert "3 without a type are left out" in caplog.text


@pytest.mark.parametrize(
    ("items", "types", "message"),
    [
        ([("", "1", "3")], TYPES, r"train_label\.xml:3: typeID is '3'; allowed: 1, 2, 7, or 0 for no type"),
        ([("", "1", "1"), ("", "1", "-1")], TYPES, r"train_label\.xml:4: typeID is '-1'; allowed: 1, 2"),
        ([("a_1.jpg", None, "1")], TYPES, r"xml:3: vehicleID is '' and imageName 'a_1.jpg'; allowed: a num"),
        ([("", "9" * 19, "1")], TYPES, r"xml:3: vehicleID is '9{19}' and"),
        ([], TYPES, r"train_label\.xml: 0 identities in elements Item, none with a typeID; needed: at le"),
        ([("", "1", "0")], TYPES, r"train_label\.xml: 1 identities in elements Item, none with a typeID"),
        ([("", "1", "1")], "", r"list_type\.txt: 0 types, at least 1 is needed"),
        ([("", "1", "1")], "1 bus\n2\n", r"list_type\.txt:2: the line is '2'; allowed: `number name`, each"),
        ([("", "1", "1")], "bus 1", r"list_type\.txt:1: the line is 'bus 1'"),
        ([("", "1", "1")], "1 bus\n01 van", r"list_type\.txt:2: the line is '01 van'"),
    ],
)
def test_bad_items_and_lines_are_named(phrases, items, types, message):
    with pytest.raises(ValueError, match=message):
        phrases(*items, types=types)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"list_type\.txt: no such file"):
        read_type_phrases(tmp_path / "train_label.xml", tmp_path / "list_type.txt")


def test_type_0_may_be_in_the_list_and_still_is_no_type(phrases):
    assert phrases(("", "1", "0"), ("", "2", "1"), types="0 unknown\n1 bus") == {
        "0002": "bus, a type of vehicle"
    }
