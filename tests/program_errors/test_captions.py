"""Captions that end a program before any training, in one line that names file and row."""

import json
import shutil

import pytest

TRAIN = "train_tbps.py"


@pytest.fixture
def change_row(own_captions):
    """change_row(name=value, …) changes row 3 of a file; Ellipsis takes a name away."""

    def change(file="train_reid.json", **changes):
        rows = json.loads((own_captions / file).read_text())
        rows[2] = {name: value for name, value in (rows[2] | changes).items() if value is not ...}
        (own_captions / file).write_text(json.dumps(rows))
        return own_captions / "imgs" / rows[2].get("file_path", "")

    return change


@pytest.mark.parametrize("file", ["train_reid.json", "test_reid.json"])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": "12"}, "id is '12'"),
        ({"id": True}, "id is True"),
        ({"id": 1.5}, "id is 1.5"),
        ({"id": -4}, "id is -4"),
        ({"id": 10**19}, "id is 10000000000000000000"),
        ({"id": ...}, "id: "),
        ({"captions": ...}, "captions: "),
        ({"captions": "A man"}, "captions is 'A man'"),
        ({"captions": [["A man"]]}, "captions.0 is ['A man']"),
        ({"captions": ["A man", " (...)! "]}, "caption 2 of "),
        ({"file_path": ...}, "file_path: "),
    ],
)
def test_rows_that_cannot_be_read(refused, own_captions, change_row, file, changes, told):
    change_row(file, **changes)
    refused(TRAIN, "DATASETS.ROOT_DIR", str(own_captions), told=[own_captions / file, "row 3: ", told])


@pytest.mark.parametrize("text", ["", "[", "{}", "[1]", "[" * 10_000])
def test_files_of_another_form(refused, own_captions, text):
    (own_captions / "train_reid.json").write_text(text)
    refused(TRAIN, "DATASETS.ROOT_DIR", str(own_captions), told=[own_captions / "train_reid.json"])


def test_missing_files_and_folders(refused, own_captions):
    root = ("DATASETS.ROOT_DIR", str(own_captions))
    refused(TRAIN, "DATASETS.ROOT_DIR", "/nowhere", told=["/nowhere/train_reid.json: no such file"])
    refused(TRAIN, *root, "DATASETS.NAMES", "rstpreid", told=[own_captions / "RSTPReid/data_captions.json"])
    refused(TRAIN, *root, "DATASETS.EVAL_SPLIT", "val", told=[own_captions / "val_reid.json"])
    refused(TRAIN, *root, "DATASETS.EVAL_SPLIT", "dev", told=["DATASETS.EVAL_SPLIT is 'dev'", "'val'"])
    refused(TRAIN, *root, "DATASETS.NAMES", "market1501", told=["DATASETS.NAMES 'market1501'", "cuhk_pedes"])
    pairs = ("DATASETS.ANNOTATION_DIR", "/nowhere")
    refused(TRAIN, *root, *pairs, told=["/nowhere/train_reid.json: no such file"])
    shutil.rmtree(own_captions / "imgs")
    refused(TRAIN, *root, told=[own_captions / "imgs", "no such folder"])


@pytest.mark.parametrize("file", ["train_reid.json", "test_reid.json"])
def test_images_that_are_listed_and_absent_or_damaged(refused, own_captions, change_row, file):
    path = change_row(file)
    content = path.read_bytes()
    path.unlink()
    told = [path, "1 of 24 image files are missing"]
    refused(TRAIN, "DATASETS.ROOT_DIR", str(own_captions), told=told)
    path.write_bytes(content[:100])
    told = [path, "1 of 24 image files are damaged"]
    refused(TRAIN, "DATASETS.ROOT_DIR", str(own_captions), told=told)


def test_a_split_without_captions(refused, own_captions):
    for file, told in (
        ("test_reid.json", "0 captions in the test split"),
        ("train_reid.json", "train split"),
    ):
        rows = json.loads((own_captions / file).read_text())
        (own_captions / file).write_text(json.dumps([row | {"captions": []} for row in rows]))
        refused(TRAIN, "DATASETS.ROOT_DIR", str(own_captions), told=[own_captions, told, "at least 1"])


def test_long_captions_and_images_without_any_are_no_errors(start, own_captions, change_row):
    change_row(captions=["word " * 1000])
    change_row("test_reid.json", captions=[])
    status, out, err = start(TRAIN, "DATASETS.ROOT_DIR", str(own_captions), "SOLVER.MAX_EPOCHS", "1")
    assert status == 0 and not err
    assert "1 (captions of more than 77 words, cut to these)" in out
    assert "1 (images without caption)" in out


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("x.png,7,test,(...)", "caption 1 of "),
        ("x.png,7,testing,A man", "split 'testing'"),
        ("x.png,7,test", "3 fields"),
        (",7,test,A man", "path is empty"),
        ("x.png,7,query,", "caption is empty"),
        ("0.png,7,train,A man", "is of identity '7', but of '0' in "),
    ],
)
def test_rows_of_a_csv_file(refused, own_captions, row, told):
    rows = [f"{person}.png,{person % 4},train,A man" for person in range(8)] + ["9.png,7,test,A man", row]
    file = own_captions / "dataset.csv"
    file.write_text("\n".join(["path,pid,split,caption", *rows]))
    pairs = ("DATASETS.NAMES", "csv", "DATASETS.ROOT_DIR", str(own_captions))
    refused(TRAIN, *pairs, told=[f"{file}:11: ", told])
