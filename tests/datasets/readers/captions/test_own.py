import logging
import os

import pytest

from datasets import make_caption_dataset

HEADER = "path,pid,split,caption"
TRAIN, TEST = "1.jpg,ann,train,A man.", "2.jpg,7,test,A woman!"


@pytest.fixture
def read_csv(caption_cfg, tmp_path):
    """A function: lines, KEY, VALUE, … → the data set that dataset.csv with these lines is."""

    def read(lines, *pairs, **options):
        (tmp_path / "dataset.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return make_caption_dataset(caption_cfg("csv", *pairs), **options)

    return read


@pytest.fixture
def read_folder(caption_cfg, tmp_path, touch_files):
    """A function: name → text of a file or None for an empty one, KEY, VALUE, … → the data set."""

    def read(files, *pairs, **options):
        touch_files(tmp_path, *files)
        for name, text in files.items():
            (tmp_path / name).write_text(text or "", encoding="utf-8")
        return make_caption_dataset(caption_cfg("folder", *pairs), **options)

    return read


def described(records):
    return [(r.path.rpartition("/")[2], r.pid, r.caption, r.key.rpartition("#")[2]) for r in records]


def gallery(dataset):
    return [(record.path.rpartition("/")[2], record.pid) for record in dataset.gallery]


# ---- csv


def test_a_csv_file_of_captions(read_csv, tmp_path, caplog):
    lines = [
        "split,caption,path,pid,camid,back_translation,colour",
        'train,"A man, in red.|Red man",a/1.jpg,zoe,4,A red man,x',
        "train,Somebody,a/1.jpg,zoe,4,,x",
        "train,,a/2.jpg,ann,4,,x",
        f"train,A boy,{tmp_path}/abs/3.jpg,ann,-1,a lad,x",
        "test,A woman|A lady,4.jpg,7.0,9,,x",
        "gallery,A needless one,5.jpg,007,9,,x",
        "query,A girl,6.jpg,8,9,,x",
        "gallery,,7.jpg,-1,9,,x",
        "val,Not read,8.jpg,8,9,,x",
    ]
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = read_csv(lines)
    assert described(dataset.train) == [
        ("1.jpg", 0, "a man, in red", "0"),
        ("1.jpg", 0, "red man", "1"),
        ("1.jpg", 0, "somebody", "2"),
        ("3.jpg", 1, "a boy", "0"),
    ]
    assert [record.back_translation for record in dataset.train] == ["a red man", "", "", "a lad"]
    assert dataset.train[0].key == f"{tmp_path}/a/1.jpg#0"
    assert dataset.train[3].path == f"{tmp_path}/abs/3.jpg"
    assert [record.texts.identity for record in dataset.train] == ["zoe", "zoe", "zoe", "ann"]
    (trial,) = dataset.trials
    assert described(trial.query) == [
        ("4.jpg", 7, "a woman", "0"),
        ("4.jpg", 7, "a lady", "1"),
        ("6.jpg", 8, "a girl", "0"),
    ]
    assert gallery(dataset) == [("4.jpg", 7), ("5.jpg", 7), ("7.jpg", -1)]
    assert (dataset.name, dataset.upright, trial.rule) == ("csv", True, "all")
    for told in (
        "1 columns are not read: 'colour'",
        "train split: 2 (captions without back translation), such as ",
        "1 (images without caption, left out), such as ",
        "1 (rows of captions with another number of back translations), such as ",
        "1 captions in gallery are not searched for",
        "no identity known (-1) for 1 of 3",
        "'007' = '7.0'",
    ):
        assert told in caplog.text


def test_the_validation_rows_of_a_csv_file(read_csv):
    rows = [HEADER, TRAIN, "3.jpg,8,val,A boy", "4.jpg,9,val,"]
    dataset = read_csv(rows, "DATASETS.EVAL_SPLIT", "val")
    assert (dataset.queries, gallery(dataset)) == ([("a boy", 8)], [("3.jpg", 8), ("4.jpg", 9)])
    with pytest.raises(ValueError, match=r"0 gallery images in the test split .*there: train, val"):
        read_csv(rows)


def test_a_test_needs_no_training_rows(read_csv):
    assert read_csv([HEADER, TEST], need_train=False).queries == [("a woman", 7)]
    assert read_csv([HEADER, TRAIN, "9.jpg,5,train,...", TEST], need_train=False).train == []
    with pytest.raises(ValueError, match=r"dataset\.csv: 0 captions in the train split.* there: test"):
        read_csv([HEADER, TEST])


def test_a_csv_file_as_a_spreadsheet_saves_it(caption_cfg, tmp_path):
    text = f"{HEADER}\r\n{TRAIN}\r\n\r\n{TEST}\r\n"
    (tmp_path / "mine.csv").write_bytes(text.encode("utf-8-sig"))
    dataset = make_caption_dataset(caption_cfg("csv", "DATASETS.CSV", "mine.csv"))
    assert dataset.queries == [("a woman", 7)]
    dataset = make_caption_dataset(
        caption_cfg("csv", "DATASETS.CSV", "mine.csv", "INPUT.ORIENTATION", "stored")
    )
    assert not dataset.upright


def test_rows_of_one_image(read_csv, caplog):
    rows = ["1.jpg,a,train,One", "1.jpg,a,train,ONE.", "1.jpg,a,train,Two", "1.jpg,7,test,Same in test"]
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = read_csv([HEADER, *rows])
    assert [record.caption for record in dataset.train] == ["one", "two"]
    assert "1 (captions that repeat one of another row of their image, left out), such as " in caplog.text
    assert f"{os.sep}dataset.csv:3" in caplog.text


def test_images_without_pid_are_identities_of_their_own(read_csv, caplog):
    lines = [HEADER, TRAIN, "3.jpg,,train,A boy", "3.jpg,,train,A lad", "4.jpg,,train,A girl", TEST]
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = read_csv([*lines, "5.jpg,,test,A lady", "6.jpg,,gallery,", "6.jpg,,query,Somebody"])
    pids = {record.path.rpartition("/")[2]: record.pid for record in dataset.train}
    assert [*pids] == ["1.jpg", "3.jpg", "4.jpg"] and {*pids.values()} == {0, 1, 2}
    tested = dict(gallery(dataset))
    assert tested["2.jpg"] == 7 and len({*tested.values()}) == 3
    assert dataset.queries == [("a woman", 7), ("a lady", tested["5.jpg"]), ("somebody", tested["6.jpg"])]
    assert "no identity known for 4 images, each is taken for one of its own, such as " in caplog.text


def test_an_image_that_is_query_and_gallery(read_csv):
    dataset = read_csv([HEADER, TRAIN, "2.jpg,7,query,One", "2.jpg,7,gallery,", "3.jpg,8,query,Two"])
    assert gallery(dataset) == [("2.jpg", 7)] and len(dataset.queries) == 2


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["path,pid,split", TRAIN], ":1: no column 'caption' among path, pid, split; needed are"),
        ([HEADER, "1.jpg,a,train"], ":2: 3 fields, allowed are 4"),
        ([HEADER, "1.jpg,a,valid,A man"], ":2: split 'valid', allowed are train, val, test, query, gallery"),
        ([HEADER, ",a,train,A man"], ":2: path is empty"),
        ([HEADER, "1.jpg,a,train,nan"], ":2: caption is 'nan', as tables write an empty cell"),
        ([HEADER, "1.jpg,a,query,"], ":2: caption is empty"),
        ([HEADER, TRAIN, '2.jpg,a,train,"A man||A boy"'], r":3: caption 2 of .*/2\.jpg is ''"),
        ([HEADER, TRAIN, "2.jpg,a,train,(...)"], r":3: caption 1 of .*/2\.jpg is '\(\.\.\.\)'"),
        ([HEADER, TRAIN, TEST, "2.jpg,8,test,A"], r":4: .*/2\.jpg is of identity '8', but of '7' in .*csv:3"),
        ([HEADER, TRAIN, TEST, "2.jpg,8,gallery,"], r":4: .*2\.jpg is of identity '8', but of .7. in .*:3"),
        ([HEADER, TRAIN, "2.jpg,7,gallery,"], r": 0 captions in the test split \(DATASETS\.EVAL_SPLIT\)"),
        ([HEADER, TRAIN, "2.jpg,7,query,A"], r": 0 gallery images in the test split"),
        ([HEADER, "1.jpg,a,train,", TEST], r": 0 captions in the train split"),
        (["x" * 200_000], ":1: "),
    ],
)  # fmt: skip
def test_errors_of_a_csv_file_name_the_line(lines, told, read_csv, tmp_path):
    with pytest.raises(ValueError, match=f"^{tmp_path}/dataset.csv{told}") as error:
        read_csv(lines)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_missing_csv_file(caption_cfg):
    with pytest.raises(FileNotFoundError, match=r"dataset\.csv: no such file.*path, pid, split, caption"):
        make_caption_dataset(caption_cfg("csv"))


# ---- folder

PEOPLE = {
    "train/ann/a_c2.jpg": None,
    "train/ann/a_c2.txt": "\ufeffA woman.\n\n  \nA lady in red\r\n",
    "train/ben/b.png": None,
    "train/ben/b.png.txt": "A man",
    "train/ben/c.jpg": None,
    "test/7/d.jpg": None,
    "test/7/d.txt": "Somebody",
    "test/8/e.jpg": None,
}


def test_a_folder_of_captions(read_folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = read_folder(PEOPLE)
    assert described(dataset.train) == [
        ("a_c2.jpg", 0, "a woman", "0"),
        ("a_c2.jpg", 0, "a lady in red", "1"),
        ("b.png", 1, "a man", "0"),
    ]
    assert described(dataset.trials[0].query) == [("d.jpg", 7, "somebody", "0")]
    assert gallery(dataset) == [("d.jpg", 7), ("e.jpg", 8)]
    assert (dataset.name, dataset.upright, dataset.train[0].texts.identity) == ("folder", True, "ann")
    assert f"1 (images without caption, left out), such as {tmp_path}/train/ben/c.jpg" in caplog.text
    assert f"1 (images without caption), such as {tmp_path}/test/8/e.jpg" in caplog.text


def test_folders_of_queries_and_gallery(read_folder, tmp_path):
    files = {
        "train/1/a.jpg": None,
        "train/1/a.txt": "One",
        "query/2/b.jpg": None,
        "query/2/b.txt": "Two",
        "gallery/2/c.jpg": None,
        "gallery/2/c.txt": "Not searched for",
        "gallery/-1/d.jpg": None,
    }
    dataset = read_folder(files)
    assert (dataset.queries, gallery(dataset)) == ([("two", 2)], [("d.jpg", -1), ("c.jpg", 2)])
    more = read_folder({"test/3/e.jpg": None, "test/3/e.txt": "Three"})
    assert more.queries == [("three", 3), ("two", 2)]
    assert gallery(more) == [("e.jpg", 3), ("d.jpg", -1), ("c.jpg", 2)]


def test_folders_that_are_needed(read_folder, caption_cfg, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"/train: no such folder"):
        read_folder({"test/7/d.jpg": None, "test/7/d.txt": "A"})
    assert make_caption_dataset(caption_cfg("folder"), need_train=False).queries == [("a", 7)]
    with pytest.raises(FileNotFoundError, match=r"/val: no such folder"):
        make_caption_dataset(caption_cfg("folder", "DATASETS.EVAL_SPLIT", "val"), need_train=False)
    dataset = read_folder(
        {"val/9/v.jpg": None, "val/9/v.txt": "V"}, "DATASETS.EVAL_SPLIT", "val", need_train=False
    )
    assert (dataset.queries, dataset.split) == ([("v", 9)], "val")
    os.rename(tmp_path / "test", tmp_path / "gallery")
    with pytest.raises(FileNotFoundError, match=r"/test: no such folder"):
        make_caption_dataset(caption_cfg("folder"), need_train=False)


def test_text_files_in_a_folder(read_folder, tmp_path, caplog):
    read_folder(PEOPLE | {"train/ben/d.txt": "lost", "train/other.txt": "lost", "test/7/d.jpg.txt": "Both"})
    (warning,) = caplog.messages
    assert f"2 (a text file without an image of its name), such as {tmp_path}/train/ben/d.txt" in warning
    assert read_folder({}).queries == [("somebody", 7), ("both", 7)]


def test_text_files_in_capital_letters_and_other_forms_of_letters(read_folder, caplog):
    names = {"train/ann/e\u0301.jpg": None, "train/ann/\xe9.txt": "Accent", "test/8/e.TXT": "Capitals"}
    dataset = read_folder(PEOPLE | names)
    assert [record.caption for record in dataset.train] == ["a woman", "a lady in red", "accent", "a man"]
    assert dataset.queries == [("somebody", 7), ("capitals", 8)] and not caplog.messages


def test_a_text_file_of_two_images(read_folder, tmp_path, caplog):
    dataset = read_folder(PEOPLE | {"test/7/d.png": None})
    assert dataset.queries == [("somebody", 7), ("somebody", 7)]
    (warning,) = caplog.messages
    assert f"1 text files describe images of one name with several suffixes, such as {tmp_path}" in warning
    assert "d.jpg and " in warning and "d.png" in warning


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("train/ben/b.png.txt", "fine\n...", r"b\.png\.txt: caption 2 of .*/b\.png is '\.\.\.'"),
        ("train/8/deep/f.jpg", "", r"f\.jpg: image at the wrong depth, allowed is train/<identity>/<image>$"),
        ("test/8/deep/f.jpg", "", r"test/8/deep/f\.jpg: image at the wrong depth"),
    ],
)
def test_errors_in_a_folder_name_the_file(name, text, told, read_folder):
    with pytest.raises(ValueError, match=told) as error:
        read_folder(PEOPLE | {name: text})
    assert "\n" not in str(error.value)


def test_loose_images_of_a_folder_are_identities_of_their_own(read_folder, tmp_path, caplog):
    files = {"train/a.jpg": None, "train/a.txt": "A man", "train/b.jpg": None, "train/b.txt": "A boy\nTwo"}
    files |= {"test/3.jpg": None, "test/3.txt": "A girl", "test/7/d.jpg": None, "test/7/d.txt": "Somebody"}
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = read_folder(files)
    found = [(record.pid, record.caption) for record in dataset.train]
    assert found == [(0, "a man"), (1, "a boy"), (1, "two")]
    assert len({pid for _, pid in gallery(dataset)}) == len(dataset.queries) == 2
    assert f"{tmp_path}: no identity known for 3 images, each is taken for one of its own" in caplog.text


def test_text_files_that_are_no_text(read_folder, tmp_path):
    read_folder(PEOPLE)
    file = tmp_path / "train/ann/a_c2.txt"
    file.write_bytes("\xe4".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{file}: cannot be read as text in UTF-8"):
        read_folder({})
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ValueError, match=rf"{file} is a pipe; allowed: a plain file"):
        read_folder({})
    file.unlink()
    file.symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match=rf"{file}: no such file"):
        read_folder({})
