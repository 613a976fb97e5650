import shutil

import pytest

from datasets.readers import ReadOptions
from datasets.readers.market1501 import FOLDER, market1501


def test_golden_records(golden_tree, golden_form, golden_records, touch_files):
    root = golden_tree("market1501")
    touch_files(root / FOLDER / "bounding_box_test", "-1_c3s1_025147_02.jpg", "Thumbs.db")
    data = market1501(root)
    for split in ("train", "query", "gallery"):
        ours, want = golden_form(data, split, root)
        assert ours == want
    counts = golden_records["market1501"]
    assert (data.num_train_pids, data.num_train_cams, data.num_train_views) == (
        counts["num_train_pids"],
        counts["num_train_cams"],
        counts["num_train_vids"],
    )
    assert (data.subject, len(data.trials)) == ("person", 1)


def test_background_stays_in_the_gallery_and_junk_does_not(golden_tree, touch_files, caplog):
    root = golden_tree("market1501")
    touch_files(root / FOLDER / "bounding_box_test", "-1_c3s1_025147_02.jpg")
    with caplog.at_level("INFO", "transreid.datasets"):
        pids = [record.pid for record in market1501(root).gallery]
    assert 0 in pids
    assert -1 not in pids
    assert f"of {1 + len(pids)} images have identity -1 and are left out" in caplog.text


def test_testing_needs_no_training_split(golden_tree):
    root = golden_tree("market1501")
    full = market1501(root)
    shutil.rmtree(root / FOLDER / "bounding_box_train")
    data = market1501(root, ReadOptions(need_train=False))
    assert data.train == []
    assert data.trials == full.trials
    with pytest.raises(FileNotFoundError, match="bounding_box_train: no such folder"):
        market1501(root)


def test_errors_name_folder_and_file(golden_tree, touch_files, tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=f"/{FOLDER} or .*/Market1501: no such folder, expected there: bounding_box_train",
    ):
        market1501(tmp_path)
    root = golden_tree("market1501")
    touch_files(root / FOLDER / "query", "1502_c1s1_000001_00.jpg")
    with pytest.raises(ValueError, match=r"1502_c1s1_000001_00\.jpg: identity 1502, allowed are 0 to 1501"):
        market1501(root)
    (root / FOLDER / "query" / "1502_c1s1_000001_00.jpg").rename(root / FOLDER / "query" / "0002_c7s1.jpg")
    with pytest.raises(ValueError, match=r"0002_c7s1\.jpg: camera 7, allowed are 1 to 6"):
        market1501(root)
    (root / FOLDER / "query" / "0002_c7s1.jpg").rename(root / FOLDER / "query" / "0002_c12s1.jpg")
    with pytest.raises(ValueError, match=r"0002_c12s1\.jpg: camera 12, allowed are 1 to 6"):
        market1501(root)


def test_it_is_also_found_in_the_folder_of_pcl_clip(golden_tree):
    root = golden_tree("market1501")
    wanted = market1501(root)
    (root / FOLDER).rename(root / "Market1501")
    data = market1501(root)
    assert [r.path.replace("Market1501", FOLDER) for r in data.train] == [r.path for r in wanted.train]
    assert [r[1:4] for r in (*data.query, *data.gallery)] == [
        r[1:4] for r in (*wanted.query, *wanted.gallery)
    ]
    (root / FOLDER).mkdir()
    with pytest.raises(FileNotFoundError, match=f"{FOLDER}/bounding_box_train: no such folder"):
        market1501(root)  # the first that is there
