import shutil

import pytest

from datasets.readers import ReadOptions
from datasets.readers.msmt17 import msmt17


@pytest.fixture
def tree(golden_tree, golden_records):
    """The golden tree with its four lists; the last 8 training records are in list_val.txt."""
    root = golden_tree("msmt17")
    golden = golden_records["msmt17"]
    lists = {
        "train": golden["train"][:-8],
        "val": golden["train"][-8:],
        "query": golden["query"],
        "gallery": golden["gallery"],
    }
    for name, records in lists.items():
        lines = [f"{path.split('/', 2)[2]} {pid:04d}\n" for path, pid, *_ in records]
        (root / "MSMT17" / f"list_{name}.txt").write_text("".join(lines))
    return root


def test_golden_records_from_train_and_val_lists(tree, golden_form, golden_records):
    data = msmt17(tree)
    for split in ("train", "query", "gallery"):
        ours, want = golden_form(data, split, tree)
        assert ours == want
    assert data.num_train_pids == golden_records["msmt17"]["num_train_pids"]
    assert data.num_train_cams == golden_records["msmt17"]["num_train_cams"]
    assert data.subject == "person"


def test_the_second_release_has_other_folders(tree):
    first = msmt17(tree)
    (tree / "MSMT17" / "train").rename(tree / "MSMT17" / "mask_train_v2")
    (tree / "MSMT17" / "test").rename(tree / "MSMT17" / "mask_test_v2")
    second = msmt17(tree)
    assert [r.path.replace("mask_train_v2", "train") for r in second.train] == [r.path for r in first.train]
    assert [r.path.replace("mask_test_v2", "test") for r in second.query] == [r.path for r in first.query]
    assert [r[1:4] for r in second.gallery] == [r[1:4] for r in first.gallery]


def test_it_is_also_found_in_the_folder_of_the_second_release(tree, caplog):
    ours, other = tree / "MSMT17", tree / "MSMT17_V2"
    wanted = msmt17(tree)
    shutil.copytree(ours, other)
    with caplog.at_level("INFO", "transreid.datasets"):
        assert msmt17(tree) == wanted
    assert f"{ours} is read, not {other}" in caplog.text
    shutil.rmtree(ours)
    data = msmt17(tree)
    assert [r.path.replace(str(other), str(ours)) for r in data.train] == [r.path for r in wanted.train]
    shutil.rmtree(other)
    with pytest.raises(
        FileNotFoundError, match=f"{ours} or {other}: no such folder, expected there: test or"
    ):
        msmt17(tree)


def test_testing_needs_neither_training_images_nor_lists(tree):
    trials = msmt17(tree).trials
    shutil.rmtree(tree / "MSMT17" / "train")
    with pytest.raises(FileNotFoundError, match="train: no such folder, expected there: the train images"):
        msmt17(tree)
    (tree / "MSMT17" / "list_train.txt").unlink()
    (tree / "MSMT17" / "list_val.txt").unlink()
    data = msmt17(tree, ReadOptions(need_train=False))
    assert (data.train, data.trials) == ([], trials)


def test_missing_folders_and_lists_are_named(tree, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="MSMT17_V2: no such folder, expected there: test or mask_test_v2"
    ):
        msmt17(tmp_path / "other")
    (tree / "MSMT17" / "list_query.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"list_query\.txt: no such file"):
        msmt17(tree)
    shutil.rmtree(tree / "MSMT17" / "test")
    with pytest.raises(
        FileNotFoundError, match="no folder with test images, expected there: test or mask_test"
    ):
        msmt17(tree)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0000/0000_000_16_x.jpg 0", r"list_query\.txt:1: camera '16' in '0000/0000_000_16_x.jpg'.* 1 to 15"),
        ("0000/0000_000_xx_y.jpg 0", r"list_query\.txt:1: camera 'xx'"),
        ("0000/0000.jpg 0", r"list_query\.txt:1: camera ''"),
        ("0000/0000_000_01_x.jpg", r"list_query\.txt:1: the line is '0000/0000_000_01_x.jpg'"),
        ("0000/0_0_9999999999999999999_x.jpg 0", r"list_query\.txt:1: camera '9999999999999999999'"),
        ("0000/0000_000_01_x.jpg 9999999999999999999", r"list_query\.txt:1: the line is .*a number ≥ 0"),
        ("", r"list_query\.txt: 0 images in the query split"),
    ],
)
def test_bad_lines_are_named(tree, line, message):
    (tree / "MSMT17" / "list_query.txt").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        msmt17(tree)


def test_byte_order_marks_are_no_part_of_a_path(tree):
    wanted = msmt17(tree)
    for file in (tree / "MSMT17").glob("list_*.txt"):
        file.write_text(file.read_text().replace("\n", "\r"), encoding="utf-8-sig")
    assert msmt17(tree) == wanted


# ---- the folders of PCL-CLIP


@pytest.fixture
def folders(tmp_path, touch_files):
    touch_files(
        tmp_path / "MSMT17",
        *["bounding_box_train/0007_c15_0001.jpg", "bounding_box_train/0002_c1_0000.jpg"],
        *["bounding_box_train/-1_c3_0000.jpg", "bounding_box_train/notes.txt"],
        *["query/0003_c2_0009.jpg", "bounding_box_test/3059_c14_0000.jpg", "bounding_box_test/0003_c9_1.jpg"],
    )
    return tmp_path


def test_folders_without_lists_are_read_by_their_names(folders):
    data = msmt17(folders)
    rows = [(r.path.rpartition("/")[2], *r[1:4]) for r in (*data.train, *data.query, *data.gallery)]
    assert rows == [
        ("0002_c1_0000.jpg", 0, 0, 0),
        ("0007_c15_0001.jpg", 1, 14, 0),
        ("0003_c2_0009.jpg", 3, 1, 0),
        ("0003_c9_1.jpg", 3, 8, 0),
        ("3059_c14_0000.jpg", 3059, 13, 0),
    ]
    assert (data.name, data.subject, len(data.trials)) == ("msmt17", "person", 1)


def test_testing_needs_no_training_folder(folders):
    trials = msmt17(folders).trials
    shutil.rmtree(folders / "MSMT17" / "bounding_box_train")
    data = msmt17(folders, ReadOptions(need_train=False))
    assert (data.train, data.trials) == ([], trials)
    with pytest.raises(FileNotFoundError, match="bounding_box_train: no such folder"):
        msmt17(folders)


def test_lists_come_before_folders(tree, touch_files):
    wanted = msmt17(tree)
    touch_files(tree / "MSMT17", "bounding_box_test/0003_c9_1.jpg", "query/0003_c2_0009.jpg")
    assert msmt17(tree) == wanted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0003_c16_0.jpg", r"0003_c16_0\.jpg: camera 16, allowed are 1 to 15"),
        ("0003_c0_0.jpg", "camera 0, allowed are 1 to 15"),
        ("x_0003_c1_0.jpg", "the file name does not start with the pattern"),
        ("-2_c1_0.jpg", "identity -2, allowed are 0 to"),
    ],
)
def test_bad_names_are_named(folders, touch_files, name, message):
    touch_files(folders / "MSMT17", f"query/{name}")
    with pytest.raises(ValueError, match=message):
        msmt17(folders)
