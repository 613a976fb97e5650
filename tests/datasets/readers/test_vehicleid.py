from collections import Counter

import pytest

from datasets.readers import ReadOptions
from datasets.readers.vehicleid import vehicleid

TRAIN = ["0000001 900", "0000002 17", "0000003 900"]
# Identities 5 (four images), 8 (two) and 3 (one, which is always the gallery's).
TEST = ["0000011 5", "0000012 8", "0000013 5", "0000014 5", "0000015 3", "0000016 8", "0000017 5"]


@pytest.fixture
def tree(tmp_path):
    """Lists only: the records are read without the image folder."""
    lists = tmp_path / "VehicleID_V1.0" / "train_test_split"
    lists.mkdir(parents=True)
    (lists / "train_list.txt").write_text("\n".join(TRAIN))
    for size in (800, 1600):
        (lists / f"test_list_{size}.txt").write_text("\n".join(TEST))
    return tmp_path


def test_training_records(tree):
    data = vehicleid(tree)
    images = tree / "VehicleID_V1.0" / "image"
    assert [r[:4] for r in data.train] == [
        (str(images / "0000001.jpg"), 1, 0, 1),
        (str(images / "0000002.jpg"), 0, 0, 1),
        (str(images / "0000003.jpg"), 1, 0, 1),
    ]
    assert (data.num_train_pids, data.num_train_cams, data.num_train_views) == (2, 1, 1)
    assert (data.name, data.subject) == ("VehicleID", "vehicle")
    assert [r.texts for r in data.train] == [("900", ""), ("17", ""), ("900", "")]


def test_ten_trials_each_with_one_gallery_image_per_identity(tree):
    data = vehicleid(tree)
    assert len(data.trials) == 10
    for trial in data.trials:
        assert Counter(r.pid for r in trial.gallery) == {5: 1, 8: 1, 3: 1}
        assert Counter(r.pid for r in trial.query) == {5: 3, 8: 1}
        assert {r[2:4] for r in trial.query} == {(0, 1)}
        assert {r[2:4] for r in trial.gallery} == {(1, 1)}
        assert len({r.path for r in (*trial.query, *trial.gallery)}) == len(TEST)
    assert len(data.test_records()) == len(TEST)
    drawn = {r.path for trial in data.trials for r in trial.gallery if r.pid == 5}
    assert len(drawn) > 1  # the draws differ


def test_draws_follow_the_seed(tree):
    def trials(**options):
        return vehicleid(tree, ReadOptions(**options)).trials

    assert trials(seed=3) == trials(seed=3) == trials(seed=3, need_train=False) != trials(seed=4)


def test_test_size_chooses_the_list(tree):
    (tree / "VehicleID_V1.0/train_test_split/test_list_1600.txt").write_text("1 4\n2 4\n")
    assert len(vehicleid(tree, ReadOptions(test_size=1600)).test_records()) == 2
    with pytest.raises(FileNotFoundError, match=r"test_list_2400\.txt: no such file"):
        vehicleid(tree, ReadOptions(test_size=2400))
    with pytest.raises(ValueError, match="test_size is 100; allowed: 800, 1600, 2400"):
        vehicleid(tree, ReadOptions(test_size=100))


def test_testing_needs_no_training_list(tree):
    (tree / "VehicleID_V1.0/train_test_split/train_list.txt").unlink()
    assert vehicleid(tree, ReadOptions(need_train=False)).train == []
    with pytest.raises(FileNotFoundError, match=r"train_list\.txt: no such file"):
        vehicleid(tree)


def test_errors_name_folder_file_and_line(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"VehicleID_V1\.0: no such folder, expected there: image"):
        vehicleid(tmp_path / "other")
    test_list = tree / "VehicleID_V1.0/train_test_split/test_list_800.txt"
    test_list.write_text("0000001 5\n0000002\n")
    with pytest.raises(
        ValueError, match=r"test_list_800\.txt:2: the line is '0000002', allowed is `image_id"
    ):
        vehicleid(tree)
    test_list.write_text("0000001 5\n0000002 6\n")
    with pytest.raises(ValueError, match=r"test_list_800\.txt: 0 images in the query split"):
        vehicleid(tree)


def test_byte_order_marks_are_no_part_of_a_path(tree):
    wanted = vehicleid(tree)
    for file in (tree / "VehicleID_V1.0/train_test_split").iterdir():
        file.write_text(file.read_text().replace("\n", "\r\n"), encoding="utf-8-sig")
    assert vehicleid(tree) == wanted
