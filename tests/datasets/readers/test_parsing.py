from pathlib import Path

import pytest

from datasets.readers import ReadOptions
from datasets.readers.parsing import NameRule, read_list, read_named, relabel, require_records
from datasets.records import ImageRecord
from tests.datasets.conftest import touch
from utils.labels import NO_PID, LabelTexts

RULE = NameRule(cameras=range(1, 4), pids=range(0, 100), junk=-1)
SPLITS = ("train", "query", "test")


def read(root, *train, viewid=0):
    """Training records of the files of these names; query and gallery have one image each."""
    touch(root, *(f"train/{name}" for name in train), "query/0001_c1.jpg", "test/0001_c2.jpg")
    return read_named(root, SPLITS, RULE, ReadOptions(), viewid)[0]


def test_named_files_are_sorted_and_cameras_start_at_zero(tmp_path, caplog):
    names = ["0007_c3_b.jpg", "0002_c1_a.JPG", "-1_c1.jpg", "Thumbs.db", "notes.txt"]
    assert read(tmp_path, *names, viewid=4) == [
        ImageRecord(str(tmp_path / "train/0002_c1_a.JPG"), 2, 0, 4, texts=LabelTexts("0002", "c1")),
        ImageRecord(str(tmp_path / "train/0007_c3_b.jpg"), 7, 2, 4, texts=LabelTexts("0007", "c3")),
    ]
    assert not caplog.records


def test_image_files_that_are_passed_over_are_counted_in_one_warning(tmp_path, caplog):
    touch(tmp_path, "query/0001_c1.png", "query/._0001_c1.jpg", "test/0001_c2.jpeg")
    assert len(read(tmp_path, "0002_c1.jpg", "._0002_c1.jpg", "@eaDir/0002_c1.jpg", "more/0003_c1.jpg")) == 1
    (warning,) = caplog.messages
    for told in (
        "3 (hidden",
        "query/._0001_c1.jpg",
        "2 (image-like with a suffix",
        "query/0001_c1.png",
        "1 (a folder",
    ):
        assert told in warning


def test_a_layout_of_another_suffix_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"train: 0 images .* 2 \(image-like with a suffix .*0001_c1\.png"):
        read(tmp_path, "0001_c1.png", "0002_c1.png")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("person7.jpg", r"person7\.jpg: the file name does not start with the pattern"),
        ("٣_c1.jpg", r"٣_c1\.jpg: the file name does not start with the pattern"),
        ("\x1b[2J.jpg", r"\\x1b\[2J\.jpg: the file name does not start with the pattern"),
        ("1-2_c1.jpg", r"1-2_c1\.jpg: the file name does not start with the pattern"),
        ("0100_c1.jpg", r"0100_c1\.jpg: identity 100, allowed are 0 to 99"),
        ("-2_c1.jpg", r"-2_c1\.jpg: identity -2, allowed are 0 to 99"),
        ("00021502_c1.jpg", r"00021502_c1\.jpg: identity 21502, allowed are 0 to 99"),
        ("0001_c4.jpg", r"0001_c4\.jpg: camera 4, allowed are 1 to 3"),
        ("0001_c12.jpg", r"0001_c12\.jpg: camera 12, allowed are 1 to 3"),
        ("0001_c10s1_0.jpg", r"0001_c10s1_0\.jpg: camera 10, allowed are 1 to 3"),
        ("-1_c0.jpg", r"-1_c0\.jpg: camera 0, allowed are 1 to 3"),
    ],
)
def test_a_name_out_of_the_rule_is_an_error(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, "0001_c1.jpg", name)


def test_only_the_file_name_is_matched_not_its_folder(tmp_path):
    assert read(tmp_path / "0099_c2", "0001_c1.jpg")[0][1:4] == (1, 0, 0)


def test_an_empty_or_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train: no such folder, expected there: the train images"):
        read(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}/train: 0 images in the train split"):
        read(tmp_path, "-1_c1.jpg")


def test_list_lines(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("0001/a b.jpg 12\n\n0002/c.jpg\t3\r\n")
    assert list(read_list(file, "path pid")) == [
        ("0001/a b.jpg", 12, f"{file}:1"),
        ("0002/c.jpg", 3, f"{file}:3"),
    ]


def test_a_list_line_that_repeats_another(tmp_path, caplog):
    file = tmp_path / "list.txt"
    file.write_text("1/a.jpg 1\nb.jpg 1\n\n1//a.jpg 1\nb.jpg 1\n")
    assert [name for name, _, _ in read_list(file, "path pid")] == ["1/a.jpg", "b.jpg"]
    assert caplog.messages == [f"{file}: 2 lines are left out: line 4 repeats line 1, line 5 repeats line 2"]
    file.write_text("a.jpg 1\na.jpg 2\n")
    with pytest.raises(ValueError, match=r"list\.txt:2: 'a\.jpg' has the number 2, but 1 in line 1"):
        list(read_list(file, "path pid"))


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg -1", "a.jpg one", "a.jpg 1.5", "12"])
def test_a_bad_list_line_is_named_with_its_number(tmp_path, line):
    file = tmp_path / "list.txt"
    file.write_text(f"ok.jpg 1\n{line}\n")
    with pytest.raises(ValueError, match=rf"list\.txt:2: the line is '{line}', allowed is path pid"):
        list(read_list(file, "path pid"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_byte_order_marks_are_no_part_of_a_path(tmp_path, end):
    lines = ["\ufeff1.jpg 1", "2.jpg 2", "\ufeff3\x85\u2028.jpg 3", ""]  # two files put together
    (tmp_path / "list.txt").write_bytes(end.join(lines).encode())
    found = [(name, pid) for name, pid, _ in read_list(tmp_path / "list.txt", "path pid")]
    assert found == [("1.jpg", 1), ("2.jpg", 2), ("3\x85\u2028.jpg", 3)]


def test_invisible_characters_are_shown(tmp_path):
    (tmp_path / "list.txt").write_text("a\u200b.jpg\xa0x")
    with pytest.raises(ValueError, match=r"the line is 'a\\u200b\.jpg\\xa0x', allowed"):
        list(read_list(tmp_path / "list.txt", "path pid"))


@pytest.mark.parametrize("text", [b"\xff\xfe1 2", "ä.jpg 1".encode("latin-1"), "a.jpg 1".encode("utf-16-le")])
def test_a_list_in_another_encoding_is_named(tmp_path, text):
    (tmp_path / "list.txt").write_bytes(text)
    with pytest.raises(ValueError, match=r"list\.txt: cannot be read as text in UTF-8: "):
        list(read_list(tmp_path / "list.txt", "path pid"))


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"list\.txt: no such file, expected there: lines of path pid"
    ):
        list(read_list(tmp_path / "list.txt", "path pid"))


def test_relabel_ranks_ascending_pids_and_keeps_the_order():
    records = [ImageRecord("a", 1500, 2, 0), ImageRecord("b", 7, 1, 0), ImageRecord("c", 1500, 0, 0)]
    assert [record.pid for record in relabel(records)] == [1, 0, 1]
    assert [record.path for record in relabel(records)] == ["a", "b", "c"]


def test_relabel_leaves_images_of_no_known_identity_alone():
    records = [ImageRecord("a", pid, 0, 0) for pid in (9, NO_PID, 4, NO_PID)]
    assert [record.pid for record in relabel(records)] == [1, NO_PID, 0, NO_PID]
    assert relabel(records[1:2]) == records[1:2]


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ((0, "hall", 0), "camid 'hall'"),
        ((0, -5, 0), "camid -5"),
        ((0, 0, 1.5), "viewid 1.5"),
        (("a", 0, 0), "pid 'a'"),
    ],
)
def test_labels_that_are_no_numbers_are_errors(labels, named):
    records = [ImageRecord("ok.jpg", 0, -1, 0), ImageRecord("bad.jpg", *labels)]
    with pytest.raises(ValueError, match=rf"labels\.json: {named} of bad\.jpg, allowed are whole numbers"):
        require_records(records, "train", Path("labels.json"))
