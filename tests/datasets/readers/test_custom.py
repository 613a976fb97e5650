import logging
import os
from pathlib import Path

import pytest

from datasets.readers import ReadOptions
from datasets.readers.custom import SPLITS, csv_dataset, folder_dataset

LABELS = (("машина35", "东门"), ("b", "west"), ("7", "2"))  # identities and cameras


def write_csv(root, *lines, name="dataset.csv"):
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def labels(records):
    return [record[1:4] for record in records]


# ---- csv


def test_csv_with_all_columns_and_others_beside(tmp_path, caplog):
    caplog.set_level(logging.INFO, "transreid.datasets")
    root = write_csv(
        tmp_path,
        " CamID,path,pid,split,camid,viewid",
        "x,a/1.jpg,40,train,7,front",
        'x,"a/2, left.jpg",7,train,3,rear',
        f",{tmp_path}/abs/3.jpg,1000,query,9,front",
        ",a/4.jpg,1000,gallery,3,side",
    )
    data = csv_dataset(root)
    # cameras 3, 7 of the training split, then 9; views front, rear, then side
    assert labels(data.train) == [(1, 1, 0), (0, 0, 1)]
    assert labels(data.query) == [(1000, 2, 0)]
    assert labels(data.gallery) == [(1000, 0, 2)]
    assert [r.path for r in data.train] == [str(tmp_path / "a/1.jpg"), str(tmp_path / "a/2, left.jpg")]
    assert data.query[0].path == str(tmp_path / "abs/3.jpg")
    assert (data.name, data.subject, len(data.trials)) == ("csv", "person", 1)
    assert caplog.messages == [f"{root}/dataset.csv:1: 1 columns are not read: 'CamID'"]


def test_csv_without_cameras_and_views(tmp_path, caplog):
    root = write_csv(tmp_path, "path,pid,split", "1.jpg,1,train", "2.jpg,2,query", "3.jpg,2,gallery")
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        data = csv_dataset(root)
    assert labels(data.train + data.query + data.gallery) == [(0, -1, 0), (2, -1, 0), (2, -1, 0)]
    assert "no camera known for 3 of 3 images" in caplog.text


def test_csv_word_pids_share_one_mapping_and_train_has_its_own(tmp_path):
    root = write_csv(
        tmp_path,
        "path,pid,split",
        *["1.jpg,zoe,train", "2.jpg,10,train"],
        *["3.jpg,carl,query", "4.jpg,ann,gallery", "5.jpg,carl,gallery", "6.jpg,7,gallery"],
    )
    data = csv_dataset(root)
    assert [r.pid for r in data.train] == [1, 0]
    # words follow the largest integer
    assert [r.pid for r in data.query] == [9]
    assert [r.pid for r in data.gallery] == [8, 9, 7]


@pytest.mark.parametrize("need_train", [True, False])
def test_labels_are_kept_as_written(tmp_path, touch_files, need_train):
    listed = [(f"{pid}/{i}_c{i}.jpg", pid, camera) for i, (pid, camera) in enumerate(LABELS)]
    rows = [f"{split}/{file},{pid},{split},{camera}" for split in SPLITS for file, pid, camera in listed]
    write_csv(tmp_path, "path,pid,split,camid", *rows)
    touch_files(tmp_path, *(f"{split}/{file}" for split in SPLITS for file, *_ in listed))
    options = ReadOptions(need_train=need_train)
    for read, cameras in ((csv_dataset, ["东门", "west", "2"]), (folder_dataset, ["c0", "c1", "c2"])):
        data = read(tmp_path, options)
        texts = [(pid, camera) for (_, pid, _), camera in zip(listed, cameras, strict=True)]
        for records in (data.train, data.query, data.gallery)[not need_train :]:
            assert [r.texts for r in sorted(records, key=lambda r: Path(r.path).name)] == texts


def test_csv_cameras_sort_by_number_and_then_by_word(tmp_path):
    rows = ["1.jpg,1,train,10", "2.jpg,1,train,9", "3.jpg,2,query,{}", "4.jpg,2,gallery,9"]
    root = write_csv(tmp_path, "path,pid,split,camid", *(row.format("010") for row in rows))
    assert [r.camid for r in csv_dataset(root).train] == [1, 0]
    assert csv_dataset(root).query[0].camid == 1  # 010 is 10
    write_csv(tmp_path, "path,pid,split,camid", *(row.format("gate") for row in rows))
    assert [r.camid for r in csv_dataset(root).train] == [1, 0]  # whatever other splits have
    assert csv_dataset(root).query[0].camid == 2


def test_csv_camera_minus_one_is_unknown(tmp_path):
    root = write_csv(
        tmp_path, "path,pid,split,camid", "1.jpg,1,train,4", "2.jpg,2,query,-1", "3.jpg,2,gallery,4"
    )
    data = csv_dataset(root)
    assert [data.train[0].camid, data.query[0].camid, data.gallery[0].camid] == [0, -1, 0]


def test_csv_long_numbers_are_words(tmp_path):
    long = "20240101123000000000001"
    root = write_csv(tmp_path, "path,pid,split", "1.jpg,1,train", f"2.jpg,{long},query", "3.jpg,5,gallery")
    data = csv_dataset(root)
    assert (data.query[0].pid, data.gallery[0].pid) == (6, 5)


def test_csv_for_testing_keeps_the_training_cameras_first(tmp_path):
    rows = ["1.jpg,1,train,9", "2.jpg,1,train,8", "3.jpg,2,query,1", "4.jpg,2,gallery,8"]
    root = write_csv(tmp_path, "path,pid,split,camid", *rows)
    data = csv_dataset(root, ReadOptions(need_train=False))
    assert data.train == []
    assert data.trials == csv_dataset(root).trials
    assert [data.query[0].camid, data.gallery[0].camid] == [2, 0]


def test_csv_for_testing_may_lack_the_training_split(tmp_path, caplog):
    root = write_csv(tmp_path, "path,pid,split,camid", "3.jpg,2,query,5", "4.jpg,2,gallery,4")
    data = csv_dataset(root, ReadOptions(need_train=False))
    assert [data.query[0].camid, data.gallery[0].camid] == [1, 0]
    assert "cameras are numbered from query and gallery only" in caplog.text
    with pytest.raises(ValueError, match=r"dataset\.csv: 0 images in the train split"):
        csv_dataset(root)


def test_csv_from_a_spreadsheet(tmp_path):
    text = "path, pid ,split\r\n1.jpg, 1 ,train\r\n\r\n2.jpg,2,query\r\n"
    text += '\ufeff"3,4.jpg",2,gallery\r\n'  # of another file, put behind the first
    (tmp_path / "mine.csv").write_bytes(text.encode("utf-8-sig"))
    data = csv_dataset(tmp_path, ReadOptions(csv="mine.csv"))
    assert (len(data.train), data.query[0].pid) == (1, 2)
    assert data.gallery[0].path == str(tmp_path / "3,4.jpg")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["path;pid;split"],
            r"dataset\.csv:1: no column 'path' among path;pid;split; needed are path, pid, split",
        ),
        (["path,pid"], r"dataset\.csv:1: no column 'split' among path, pid"),
        ([""], r"dataset\.csv:1: no column 'path' among none"),
        (["path,pid,split,pid"], r"dataset\.csv:1: column 'pid' comes 2 times"),
        (["path,pid,split", "a,1,val"], r"dataset\.csv:2: split 'val', allowed are train, query, gallery"),
        (
            ["path,pid,split,caption", "a,1,test,red"],
            r"split 'test', .*captions stand in a file of captions",
        ),
        (["path,pid,split", "a,1"], r"dataset\.csv:2: 2 fields, allowed are 3: path, pid, split"),
        (["path,pid,split", "a,b,1,train"], r"dataset\.csv:2: 4 fields, allowed are 3"),
        (["path,pid,split", "a,,train"], r"dataset\.csv:2: pid is empty"),
        (
            ["path,pid,split", "a,nan,train"],
            r"dataset\.csv:2: pid is 'nan'.* empty cell; .* or none in train",
        ),
        (["path,pid,split", "a,None,query"], r"dataset\.csv:2: pid is 'None', as tables write an empty cell"),
        (["path,pid,split,camid", "a,1,train,NULL"], r"dataset\.csv:2: camid is 'NULL'.*-1: unknown camera"),
        (["path,pid,split,viewid", "a,1,train,<NA>"], r"dataset\.csv:2: viewid is '<NA>'"),
        (["path,pid,split", "a\u200b,1,test\xa0x"], r"dataset\.csv:2: split 'test\\xa0x', allowed are"),
        (
            ["path,pid,split", "a\ufeff,1,train", "a\ufeff,1,train"],
            r"dataset\.csv:3: .*a\\ufeff is already in the train split",
        ),
        (["path,pid,split", ",1,train"], r"dataset\.csv:2: path is empty"),
        (["path,pid,split,camid", "a,1,train,"], r"dataset\.csv:2: camid is empty.*-1: unknown camera"),
        (["path,pid,split,viewid", "a,1,train, "], r"dataset\.csv:2: viewid is empty"),
        (
            ["path,pid,split", "a,1,train", "", "a,2,train"],
            r"dataset\.csv:4: .*a is already in the train split, line 2",
        ),
        (["path,pid,split", "a,1,train"], r"dataset\.csv: 0 images in the query split"),
        (["path,pid,split", "a,1,train", "b,1,query"], r"dataset\.csv: 0 images in the gallery split"),
    ],
)
def test_csv_errors_name_file_and_line(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message) as error:
        csv_dataset(write_csv(tmp_path, *lines))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["/abs/3.jpg", "../3.jpg", "a/../3.jpg", "link/../3.jpg"])
def test_csv_paths_may_lead_anywhere(tmp_path, path):
    write_csv(tmp_path, "path,pid,split", f"{path},1,train", "2.jpg,2,query", "3.jpg,2,gallery")
    assert csv_dataset(tmp_path).train[0].path == str(tmp_path / path)


def test_the_csv_file_may_be_elsewhere(tmp_path):
    write_csv(tmp_path, "path,pid,split", "1.jpg,1,train", "2.jpg,2,query", "3.jpg,2,gallery")
    (tmp_path / "sub").mkdir()
    for name in ("../dataset.csv", str(tmp_path / "dataset.csv")):
        assert csv_dataset(tmp_path / "sub", ReadOptions(csv=name)).query[0].pid == 2


@pytest.mark.parametrize("text", ["x" * 200_000, "path,pid,split\n" + "x" * 100_000 + ",1,2"])
def test_csv_of_huge_fields(tmp_path, text):
    (tmp_path / "dataset.csv").write_text(text)
    with pytest.raises(ValueError, match=r"dataset\.csv:[12]: ") as error:
        csv_dataset(tmp_path)
    assert len(str(error.value)) < 500


def test_csv_missing_or_in_another_encoding(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset\.csv: no such file.*path, pid, split"):
        csv_dataset(tmp_path)
    (tmp_path / "dataset.csv").write_bytes("path,pid,split\nä.jpg,1,train\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"dataset\.csv: cannot be read as text in UTF-8"):
        csv_dataset(tmp_path)
    (tmp_path / "dataset.csv").write_text("path,pid,split\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"dataset\.csv: .*UTF-16"):
        csv_dataset(tmp_path)


def test_csv_whole_floats_are_integers(tmp_path, caplog):
    root = write_csv(
        tmp_path,
        "path,pid,split,camid,viewid",
        *["1.jpg,3.0,train,1,0", "2.jpg,3,train,1.0,0.0", "3.jpg,1e+01,train,-1.0,1"],
        *["4.jpg,7.0,query,2.0,0", "5.jpg,7,gallery,01,0", "6.jpg,007,gallery,2,0", "7.jpg,8,gallery,-1,0"],
    )
    data = csv_dataset(root)
    assert labels(data.train) == [(0, 0, 0), (0, 0, 0), (1, -1, 1)]
    assert labels(data.query) == [(7, 1, 0)]
    assert labels(data.gallery) == [(7, 0, 0), (7, 1, 0), (8, -1, 0)]
    (warning,) = caplog.messages
    for told in ("5 labels", "training pid '3' = '3.0', test pid '7' = '007' = '7.0'", "and 2 more"):
        assert told in warning


@pytest.mark.parametrize("more", ["ann", "0x7", "9" * 30, "8.5"])
def test_csv_who_is_who_does_not_depend_on_other_rows(tmp_path, more):
    rows = ["path,pid,split,camid", "1.jpg,07,train,1", "2.jpg,7,train,01", "3.jpg,7.0,query,1"]
    rows += ["4.jpg,007,gallery,2", "5.jpg,8,gallery,2.0"]
    before = csv_dataset(write_csv(tmp_path, *rows))
    after = csv_dataset(write_csv(tmp_path, *rows, f"6.jpg,{more},train,1", f"7.jpg,{more},gallery,{more}"))
    assert after.train[:-1] == before.train and after.query == before.query
    assert after.gallery[:-1] == before.gallery and after.gallery[-1].pid == 9


def test_csv_minus_one_is_an_unknown_identity_of_the_tests(tmp_path, caplog):
    rows = ["1.jpg,-1,train", "2.jpg,2,query", "3.jpg,-1.0,query", "4.jpg,2,gallery", "5.jpg,-1,gallery"]
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        data = csv_dataset(write_csv(tmp_path, "path,pid,split", *rows))
    assert [r.pid for r in (*data.train, *data.query, *data.gallery)] == [0, 2, -1, 2, -1]
    assert "no identity known (-1) for 2 of 4 query and gallery images" in caplog.text
    assert "the training label -1 is an identity like others" in caplog.text


def test_csv_names_labels_that_differ_only_in_writing(tmp_path, caplog):
    rows = ["1.jpg,Ann,train,A", "2.jpg,ann,train,a", "3.jpg,zo\xeb,query,a"]
    rows += ["4.jpg,zoe\u0308,gallery,\u200bA"]
    data = csv_dataset(write_csv(tmp_path, "path,pid,split,camid", *rows))
    assert labels([*data.train, *data.query, *data.gallery]) == [(0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 2, 0)]
    (warning,) = caplog.messages
    assert "3 labels" in warning and "training pid 'Ann' ≠ 'ann'" in warning
    assert "test pid 'zoe\u0308' ≠ 'zo\xeb'" in warning and r"camid 'A' ≠ 'a' ≠ '\u200bA'" in warning


def test_csv_of_numbers_that_a_spreadsheet_shortened(tmp_path, caplog):
    """202301000001 and 202301000002 became one."""
    rows = ["1.jpg,1E5,train", "2.jpg,2.02301E+11,query", "3.jpg,2.02301E+11,gallery"]
    assert labels(csv_dataset(write_csv(tmp_path, "path,pid,split", *rows)).gallery) == [
        (202301000000, -1, 0)
    ]
    (warning,) = caplog.messages
    assert "1 labels" in warning and "'2.02301E+11'" in warning


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_csv_of_other_line_ends(tmp_path, end):
    rows = ["path,pid,split", "1.jpg,1,train", "2.jpg,2,query", "3.jpg,2,gallery", ""]
    (tmp_path / "dataset.csv").write_bytes(end.join(rows).encode())
    assert labels(csv_dataset(tmp_path).gallery) == [(2, -1, 0)]


def test_csv_that_is_no_plain_file(tmp_path):
    os.mkfifo(tmp_path / "dataset.csv")
    with pytest.raises(ValueError, match=r"dataset\.csv is a pipe; allowed: a plain file"):
        csv_dataset(tmp_path)


# ---- folder


def test_folder_reads_identities_cameras_and_every_suffix(tmp_path, touch_files):
    touch_files(
        tmp_path,
        *["train/0004/0004_c7_01.jpg", "train/0004/x_c2.PNG", "train/0100/0100_c10s1.webp"],
        *["query/0009/a_c3.jpeg", "gallery/0009/b_c2.bmp", "gallery/0012/b_c10.jpg"],
        *["gallery/0009/Thumbs.db", "train/readme.txt"],
    )
    data = folder_dataset(tmp_path)
    # cameras 2, 7, 10 of the training split, then 3
    assert labels(data.train) == [(0, 1, 0), (0, 0, 0), (1, 2, 0)]
    assert labels(data.query) == [(9, 3, 0)]
    assert labels(data.gallery) == [(9, 0, 0), (12, 2, 0)]
    assert data.query[0].path == str(tmp_path / "query/0009/a_c3.jpeg")
    assert (data.name, data.subject) == ("folder", "person")


def test_folder_names_are_names(tmp_path, touch_files, caplog):
    names = ["5", "005", "0005", "7.0", "-1"]
    for split in ("train", "query", "gallery"):
        touch_files(tmp_path, *(f"{split}/{name}/a.jpg" for name in names))
    data = folder_dataset(tmp_path)
    assert by_folder(data.query) == {"5": 5, "005": 6, "0005": 7, "7.0": 8, "-1": -1}
    assert by_folder(data.gallery) == by_folder(data.query)
    assert by_folder(data.train) == {"-1": 0, "5": 1, "005": 2, "0005": 3, "7.0": 4}
    assert "test pid '5' ≠ '005' ≠ '0005'" in caplog.text
    touch_files(tmp_path, "gallery/ann/a.jpg", "train/ann/a.jpg")
    more = folder_dataset(tmp_path)
    assert by_folder(more.gallery) == by_folder(data.gallery) | {"ann": 9}
    assert by_folder(more.train) == by_folder(data.train) | {"ann": 5}


def by_folder(records):
    return {record.path.split("/")[-2]: record.pid for record in records}


def test_folder_camera_numbers(tmp_path, touch_files, caplog):
    names = ["train/1/a_c1.jpg", "train/1/b_c01.jpg", "train/1/c_c001_x.jpg", "train/1/d_c12.jpg"]
    touch_files(tmp_path, *names, "query/2/e_c1_f_c2.jpg", "gallery/2/g_car12_c12_c012.jpg")
    data = folder_dataset(tmp_path)
    assert [r.camid for r in (*data.train, *data.query, *data.gallery)] == [0, 0, 0, 1, 0, 1]
    assert "1 file names hold several cameras, of which the first counts, such as " in caplog.text
    assert "1 labels are written" in caplog.text and "camid '1' = '01' = '001'" in caplog.text


def test_folder_of_what_is_not_read(tmp_path, touch_files, caplog):
    touch_files(tmp_path, *(f"{split}/1/a.jfif" for split in ("train", "query", "gallery")))
    touch_files(tmp_path, "train/.ipynb_checkpoints/a.jpg", "query/1/._a.jpg", "gallery/1/b.heic")
    touch_files(tmp_path, "train/2/a", "train/3/a.heic", "train/4/.a.jpg")
    (tmp_path / "gallery" / "circle").symlink_to(".")
    data = folder_dataset(tmp_path)
    assert [len(data.train), len(data.query), len(data.gallery)] == [1, 1, 1]
    (warning,) = caplog.messages
    lost = f"3 (an identity without an image that is read), such as {tmp_path}/train/2"
    for told in (
        "3 (hidden",
        "2 (image-like with a suffix",
        "b.heic",
        "1 (a link to what is read already)",
        lost,
    ):
        assert told in warning
    (tmp_path / "gallery/1/a.jfif").unlink()
    with pytest.raises(ValueError, match=r"0 images in the gallery split, .*not read: .*b\.heic"):
        folder_dataset(tmp_path)


def test_folder_without_marks_has_no_cameras(tmp_path, touch_files, caplog):
    touch_files(tmp_path, "train/ann/x_cam1.jpg", "query/bob/1_c4.jpg", "gallery/bob/2.jpg")
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        data = folder_dataset(tmp_path)
    assert [r.camid for r in (*data.train, *data.query, *data.gallery)] == [-1, 0, -1]
    assert "no camera known for 2 of 3 images" in caplog.text


def test_folder_for_testing(tmp_path, touch_files, caplog):
    touch_files(tmp_path, "query/bob/1_c4.jpg", "gallery/bob/2_c6.jpg")
    with pytest.raises(FileNotFoundError, match="train: no such folder, expected there: <identity>/<image>"):
        folder_dataset(tmp_path)
    assert folder_dataset(tmp_path, ReadOptions(need_train=False)).gallery[0].camid == 1
    assert "cameras are numbered from query and gallery only" in caplog.text
    touch_files(tmp_path, "train/ann/1_c6.jpg")
    data = folder_dataset(tmp_path, ReadOptions(need_train=False))
    assert (data.train, data.gallery[0].camid) == ([], 0)


def test_folder_follows_linked_identities(tmp_path, touch_files):
    touch_files(tmp_path, "train/1/a.jpg", "query/2/b.jpg", "gallery/3/c.jpg", "elsewhere/d.jpg")
    (tmp_path / "gallery/2").symlink_to(tmp_path / "elsewhere")
    assert [r.pid for r in folder_dataset(tmp_path).gallery] == [2, 3]


@pytest.mark.parametrize("name", ["loose.jpg", "1/deep/a.jpg"])
def test_folder_image_at_another_depth_is_an_error(tmp_path, touch_files, name):
    touch_files(tmp_path, "train/1/a.jpg", "query/2/b.jpg", "gallery/2/c.jpg", f"gallery/{name}")
    with pytest.raises(ValueError, match=rf"{name}: image at the wrong depth, allowed is gallery/<identity>"):
        folder_dataset(tmp_path)


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_folder_empty_split_is_an_error(tmp_path, touch_files, split):
    for name in ("train", "query", "gallery"):
        touch_files(tmp_path, f"{name}/2/{'notes.txt' if name == split else 'a.jpg'}")
    with pytest.raises(ValueError, match=f"{tmp_path}: 0 images in the {split} split"):
        folder_dataset(tmp_path)
