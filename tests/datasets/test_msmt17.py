import shutil

import pytest

from datasets.msmt17 import msmt17


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
    assert [r[1:] for r in second.gallery] == [r[1:] for r in first.gallery]


def test_testing_needs_neither_training_images_nor_lists(tree):
    trials = msmt17(tree).trials
    shutil.rmtree(tree / "MSMT17" / "train")
    with pytest.raises(FileNotFoundError, match="train: no such folder, expected there: the train images"):
        msmt17(tree)
    (tree / "MSMT17" / "list_train.txt").unlink()
    (tree / "MSMT17" / "list_val.txt").unlink()
    data = msmt17(tree, need_train=False)
    assert (data.train, data.trials) == ([], trials)


def test_missing_folders_and_lists_are_named(tree, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="MSMT17: no such folder, expected there: test or mask_test_v2"
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


def test_paths_out_of_the_root_can_be_allowed(tree):
    (tree / "MSMT17" / "list_query.txt").write_text("../../../0000_000_01_x.jpg 0\n")
    data = msmt17(tree, need_train=False, allow_outside=True)
    assert data.query[0].path == f"{tree}/MSMT17/test/../../../0000_000_01_x.jpg"
    (tree / "MSMT17" / "list_query.txt").write_text("../../0000_000_01_x.jpg 0\n")
    assert msmt17(tree).query[0].path == str(tree / "0000_000_01_x.jpg")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0000/0000_000_16_x.jpg 0", r"list_query\.txt:1: camera '16' in '0000/0000_000_16_x.jpg'.* 1 to 15"),
        ("0000/0000_000_xx_y.jpg 0", r"list_query\.txt:1: camera 'xx'"),
        ("0000/0000.jpg 0", r"list_query\.txt:1: camera ''"),
        ("0000/0000_000_01_x.jpg", r"list_query\.txt:1: the line is '0000/0000_000_01_x.jpg'"),
        ("0000/0_0_9999999999999999999_x.jpg 0", r"list_query\.txt:1: camera '9999999999999999999'"),
        ("0000/0000_000_01_x.jpg 9999999999999999999", r"list_query\.txt:1: the line is .*a number ≥ 0"),
        (
            "../../../0000_000_01_x.jpg 0",
            r"list_query\.txt:1: path '\.\./.* is outside of .*ALLOW_OUTSIDE True",
        ),
        (
            "/0000/0000_000_01_x.jpg 0",
            r"list_query\.txt:1: path '/0000/.* is outside of .*ALLOW_OUTSIDE True",
        ),
        ("0000/0000\0_000_01_x.jpg 0", r"list_query\.txt:1: path '0000/0000\\x00_"),
        ("", r"list_query\.txt: 0 images in the query split"),
    ],
)
def test_bad_lines_are_named(tree, line, message):
    (tree / "MSMT17" / "list_query.txt").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        msmt17(tree)
