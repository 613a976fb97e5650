import logging
import shutil

import pytest

from datasets.readers import ReadOptions
from datasets.readers.veri import veri

POINTS = " ".join(["-1"] * 40)


def write_labels(file, views):
    file.write_text("".join(f"VeRi/somewhere/{name} {POINTS} {view}\n" for name, view in views.items()))


@pytest.fixture
def tree(golden_tree, golden_records, touch_files):
    """The golden tree with label files in ROOT_DIR and one training image that has no label."""
    root = golden_tree("veri")
    golden = golden_records["veri"]
    for file, splits in (("train", ["train"]), ("test", ["query", "gallery"])):
        records = [record for split in splits for record in golden[split]]
        views = {path.rsplit("/", 1)[1]: view for path, _, _, view in records}
        write_labels(root / f"keypoint_{file}.txt", views)
    touch_files(root, "VeRi/image_train/0613_c020_42325981_3.jpg")
    return root


def test_golden_records_with_labels(tree, golden_form, golden_records, caplog):
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        data = veri(tree, ReadOptions(need_views=True))
    for split in ("train", "query", "gallery"):
        ours, want = golden_form(data, split, tree)
        assert ours == want
    assert data.num_train_views == golden_records["veri"]["num_train_vids"] == 8
    assert data.num_train_pids == golden_records["veri"]["num_train_pids"]
    assert data.subject == "vehicle"
    assert "VeRi train: 1 of 28 images have no viewpoint label and are left out" in caplog.text


def test_labels_are_also_found_in_the_veri_folder_which_comes_first(tree):
    name = "0012_c013_99418878_2.jpg"
    write_labels(tree / "VeRi" / "keypoint_train.txt", {name: 6})
    assert [record.viewid for record in veri(tree).train] == [6]


def test_the_train_file_wins_for_a_name_in_both(tree, golden_records):
    name = golden_records["veri"]["query"][0][0].rsplit("/", 1)[1]
    with (tree / "keypoint_train.txt").open("a") as file:
        file.write(f"VeRi/image_test/{name} {POINTS} 7\n")
    assert veri(tree).query[0].viewid == 7


@pytest.mark.parametrize("missing", [["train"], ["test"], ["train", "test"]])
def test_without_labels_every_view_is_zero_and_nothing_is_left_out(tree, caplog, missing):
    for file in missing:
        (tree / f"keypoint_{file}.txt").unlink()
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        data = veri(tree)
    assert len(data.train) == 28
    assert {r.viewid for r in (*data.train, *data.query, *data.gallery)} == {0}
    assert f"keypoint_{missing[0]}.txt" in caplog.text
    assert "every image gets view 0" in caplog.text
    with pytest.raises(
        FileNotFoundError, match=f"VeRi/keypoint_{missing[0]}.txt or .*: get it at https://github"
    ):
        veri(tree, ReadOptions(need_views=True))


def test_testing_needs_no_training_images_or_labels(tree):
    trials = veri(tree).trials
    shutil.rmtree(tree / "VeRi" / "image_train")
    (tree / "keypoint_train.txt").unlink()
    data = veri(tree, ReadOptions(need_views=True, need_train=False))
    assert (data.train, data.trials) == ([], trials)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg 1 2 3", r"keypoint_test\.txt:1: 4 fields, allowed are 42"),
        (f"a.jpg {POINTS} 8", r"keypoint_test\.txt:1: orientation '8', allowed are 0 to 7"),
        (f"a.jpg {POINTS} -1", r"keypoint_test\.txt:1: orientation '-1', allowed are 0 to 7"),
    ],
)
def test_bad_label_lines_are_named(tree, line, message):
    (tree / "keypoint_test.txt").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        veri(tree)


def test_a_byte_order_mark_is_no_part_of_a_label(tree):
    wanted = veri(tree)
    for name in ("train", "test"):
        file = tree / f"keypoint_{name}.txt"
        file.write_text(file.read_text(), encoding="utf-8-sig")
    assert veri(tree) == wanted


def test_a_split_without_any_label_is_an_error(tree):
    write_labels(tree / "keypoint_test.txt", {"other.jpg": 1})
    with pytest.raises(
        ValueError, match=r"image_query: 0 images in the query \(with viewpoint label\) split"
    ):
        veri(tree)


def test_names_out_of_range_and_missing_folders_are_named(tree, touch_files, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="VeRi: no such folder, expected there: image_train, image_query"
    ):
        veri(tmp_path / "other")
    touch_files(tree, "VeRi/image_query/0777_c001_0.jpg")
    with pytest.raises(ValueError, match=r"0777_c001_0\.jpg: identity 777, allowed are 0 to 776"):
        veri(tree)
    (tree / "VeRi/image_query/0777_c001_0.jpg").rename(tree / "VeRi/image_query/0001_c021_0.jpg")
    with pytest.raises(ValueError, match=r"0001_c021_0\.jpg: camera 21, allowed are 1 to 20"):
        veri(tree)
