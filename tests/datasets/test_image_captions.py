"""Captions of the images of a re-id data set: their files, and which image has which."""

import json
import logging

import pytest

from datasets.captions import describe_images, match_captions, read_captions
from datasets.records import ImageRecord


def record(path, pid=0):
    return ImageRecord(path, pid, 0, 0)


def test_a_table_of_ones_own_keeps_paths(tmp_path):
    file = tmp_path / "captions.csv"
    rows = ["a/1.jpg,in red|with a bag,3", "./b/1.jpg,in blue,4", "a/1.jpg, third ,3", "c/2.jpg, ,5"]
    file.write_text("\n".join(["path,caption,pid", *rows]) + "\n")
    captions = read_captions(file)
    assert captions == {"a/1.jpg": ["in red", "with a bag", "third"], "b/1.jpg": ["in blue"], "c/2.jpg": []}
    assert match_captions("/data/set/b/1.jpg", captions) == ["in blue"]
    assert match_captions("/data/set/c/1.jpg", captions) == []
    assert match_captions("/data/x.jpg", {"/data/x.jpg": ["a"]}) == ["a"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"a.jpg": 3}'),
        ("a.json", '{"a.jpg": "one text"}'),
        ("a.json", '[{"file_path": "a.jpg"}]'),
        ("a.json", "[1"),
        ("a.csv", "image,caption\na.jpg,text\n"),
        ("a.csv", "path,caption\na.jpg,nan\n"),
    ],
)
def test_other_forms_are_refused_by_name(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name) as caught:
        read_captions(tmp_path / name)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        read_captions(tmp_path / "none.json")


def test_names_that_differ_in_their_captions_are_counted(tmp_path, caplog):
    rows = [{"file_path": f"{part}/1.jpg", "captions": [text]} for part, text in (("a", "x"), ("b", "y"))]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert read_captions(tmp_path / "a.json") == {"1.jpg": ["y"]}
    assert "1 images" in caplog.text and "1.jpg" in caplog.text


def test_described_images_are_counted(caplog):
    records = [record("d/0001_c1s1_000001_02.jpg"), record("d/0001_c1s1_000002_01.jpg"), record("d/x.jpg", 1)]
    captions = {"0001_c1s1_000001_00.jpg": ["in red", " "], "x.jpg": ["in blue", "with a hat"]}
    with caplog.at_level(logging.INFO):
        found = describe_images(records, captions, "file")
    assert found == {records[0].key: ["in red"], records[2].key: ["in blue", "with a hat"]}
    assert "2 of 3" in caplog.text and "2 identities" in caplog.text and "3 in all" in caplog.text
    with pytest.raises(ValueError, match="names 2 images, 1 of them without a caption"):
        describe_images(records, {"y.jpg": ["in red"], "x.jpg": [" "]}, "file")


def test_a_name_of_several_identities_is_refused():
    records = [record("a/1.jpg", 0), record("b/1.jpg", 1), record("b/2/1.jpg", 1)]
    with pytest.raises(ValueError, match=r"1\.jpg.*a/1\.jpg.*b/1\.jpg"):
        describe_images(records, {"1.jpg": ["in red"]}, "file")
    assert list(describe_images(records, {"b/1.jpg": ["in red"]}, "file")) == ["b/1.jpg"]
