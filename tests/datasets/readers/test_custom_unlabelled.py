"""Training images of unknown identity, for training without identities."""

import logging
import shutil

import pytest

from datasets import make_dataset
from datasets.readers import ReadOptions
from datasets.readers.custom import csv_dataset, folder_dataset
from utils.labels import NO_PID

ROWS = [
    *["path,pid,split,camid", "1.jpg,,train,4", "2.jpg,8,train,3", "3.jpg,,train,3", "4.jpg,5,train,4"],
    *["5.jpg,9,query,3", "6.jpg,9,gallery,4"],
]
HINT = "in training without identities, as (`need_labels`|CLUSTER.METHOD) says$"


@pytest.fixture
def csv_root(tmp_path):
    (tmp_path / "dataset.csv").write_text("\n".join(ROWS))
    return tmp_path


@pytest.fixture
def folder_root(tmp_path, touch_files):
    names = ["train/a_c2.jpg", "train/b.jpg", "train/7/c_c1.jpg", "train/3/d_c2.jpg"]
    touch_files(tmp_path, *names, "query/9/e_c1.jpg", "gallery/9/f_c2.jpg")
    return tmp_path


def test_csv_without_a_pid(csv_root, caplog):
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        data = csv_dataset(csv_root, ReadOptions(need_labels=False))
    assert [record.pid for record in data.train] == [NO_PID, 1, NO_PID, 0]
    assert [record.camid for record in data.train] == [1, 0, 0, 1]
    assert data.num_train_pids == 2
    assert "no identity known for 2 of 4 training images" in caplog.text
    assert data.trials == csv_dataset(csv_root, ReadOptions(need_train=False, need_labels=False)).trials


def test_csv_of_no_known_identity_at_all(csv_root):
    rows = [row.replace(",8,", ",,").replace(",5,", ",,") for row in ROWS]
    (csv_root / "dataset.csv").write_text("\n".join(rows))
    data = csv_dataset(csv_root, ReadOptions(need_labels=False))
    assert {record.pid for record in data.train} == {NO_PID}
    assert data.num_train_pids == 0
    assert "train   |      0 |        4 |         2" in data.table()


@pytest.mark.parametrize("need_train", [True, False])
def test_csv_refuses_it_where_identities_are_needed(csv_root, need_train):
    with pytest.raises(ValueError, match=rf"dataset\.csv:2: pid is empty, allowed .* or none {HINT}"):
        csv_dataset(csv_root, ReadOptions(need_train=need_train))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("7.jpg,,query,1", r":8: pid is empty, allowed is any text or number$"),
        ("7.jpg,,gallery,1", r":8: pid is empty, allowed is any text or number$"),
        ("7.jpg,,other,1", r":8: pid is empty, allowed is any text or number$"),
        (",,train,1", r":8: path is empty"),
        ("7.jpg,,train,", r":8: camid is empty"),
    ],
)
def test_csv_needs_all_else(csv_root, row, message):
    (csv_root / "dataset.csv").write_text("\n".join([*ROWS, row]))
    with pytest.raises(ValueError, match=message):
        csv_dataset(csv_root, ReadOptions(need_labels=False))


@pytest.mark.parametrize("need_labels", [True, False])
def test_a_label_of_minus_one_is_a_label(tmp_path, need_labels):
    rows = ["path,pid,split", "1.jpg,-1,train", "2.jpg,-5,train", "3.jpg,2,query", "4.jpg,2,gallery"]
    (tmp_path / "dataset.csv").write_text("\n".join(rows))
    data = csv_dataset(tmp_path, ReadOptions(need_labels=need_labels))
    assert [record.pid for record in data.train] == [1, 0]


def test_folder_of_loose_training_images(folder_root):
    data = folder_dataset(folder_root, ReadOptions(need_labels=False))
    found = {record.path.rpartition("/")[2]: record[1:3] for record in data.train}
    assert found == {"a_c2.jpg": (NO_PID, 1), "b.jpg": (NO_PID, -1), "c_c1.jpg": (1, 0), "d_c2.jpg": (0, 1)}
    assert data.num_train_pids == 2


@pytest.mark.parametrize("need_train", [True, False])
def test_folder_refuses_them_where_identities_are_needed(folder_root, need_train):
    message = rf"/train/a_c2\.jpg: image at the wrong depth, allowed is train/<identity>/<image>; .* {HINT}"
    with pytest.raises(ValueError, match=message):
        folder_dataset(folder_root, ReadOptions(need_train=need_train))


@pytest.mark.parametrize("name", ["query/loose.jpg", "gallery/loose.jpg", "train/1/deep/a.jpg"])
def test_folder_allows_no_other_depth(folder_root, touch_files, name):
    touch_files(folder_root, name)
    split = name.partition("/")[0]
    with pytest.raises(ValueError, match=rf"{name}: .* allowed is {split}/<identity>/<image>$"):
        folder_dataset(folder_root, ReadOptions(need_labels=False))


def test_folder_without_tests_says_what_is_enough(folder_root):
    shutil.rmtree(folder_root / "query")
    with pytest.raises(FileNotFoundError, match=r"/query: .* \(one identity in two images is enough"):
        folder_dataset(folder_root, ReadOptions(need_labels=False))
    with pytest.raises(FileNotFoundError, match=r"/query: .* \(tools/split\.py makes splits"):
        folder_dataset(folder_root)


@pytest.mark.parametrize("name", ["csv", "folder"])
def test_the_argument_decides(data_cfg, csv_root, folder_root, name):
    data_cfg.DATASETS.NAMES = name
    with pytest.raises(ValueError, match=r"as CLUSTER\.METHOD says$"):
        make_dataset(data_cfg)
    assert sum(record.pid == NO_PID for record in make_dataset(data_cfg, need_labels=False).train) == 2


@pytest.mark.parametrize("name", ["csv", "folder"])
def test_a_test_needs_no_identities_of_training_images(data_cfg, csv_root, folder_root, name):
    """A model that was trained without identities is tested by any of the programs."""
    data_cfg.DATASETS.NAMES = name
    data = make_dataset(data_cfg, need_train=False)
    assert data.train == []
    assert data.trials == make_dataset(data_cfg, need_labels=False).trials
