import shutil

import pytest

from datasets.readers import ReadOptions
from datasets.readers.dukemtmc import dukemtmc, occ_duke

READERS = {"dukemtmc": (dukemtmc, "DukeMTMC-reID"), "occ_duke": (occ_duke, "Occluded_Duke")}


@pytest.mark.parametrize("name", READERS)
def test_golden_records(golden_tree, golden_form, golden_records, name):
    root = golden_tree(name)
    data = READERS[name][0](root)
    for split in ("train", "query", "gallery"):
        ours, want = golden_form(data, split, root)
        assert ours == want
    counts = golden_records[name]
    assert data.num_train_pids == counts["num_train_pids"]
    assert data.num_train_cams == counts["num_train_cams"]
    assert data.num_train_views == counts["num_train_vids"]
    assert data.subject == "person"


@pytest.mark.parametrize("name", READERS)
def test_testing_needs_no_training_split(golden_tree, name):
    reader, folder = READERS[name]
    root = golden_tree(name)
    trials = reader(root).trials
    shutil.rmtree(root / "dukemtmcreid" / folder / "bounding_box_train")
    data = reader(root, ReadOptions(need_train=False))
    assert (data.train, data.trials) == ([], trials)


@pytest.mark.parametrize("name", READERS)
def test_errors_name_folder_and_camera(golden_tree, touch_files, tmp_path, name):
    reader, folder = READERS[name]
    with pytest.raises(
        FileNotFoundError, match=f"{folder}: no such folder, expected there: bounding_box_train"
    ):
        reader(tmp_path)
    root = golden_tree(name)
    for camera, file in ((9, "0002_c9_f0"), (12, "0001_c12_f0")):  # the first by name is told
        touch_files(root / "dukemtmcreid" / folder / "query", f"{file}.jpg")
        with pytest.raises(ValueError, match=rf"{file}\.jpg: camera {camera}, allowed are 1 to 8"):
            reader(root)


def test_it_is_also_found_directly_under_the_root(golden_tree, caplog):
    root = golden_tree("dukemtmc")
    ours, other = root / "dukemtmcreid/DukeMTMC-reID", root / "DukeMTMC-reID"
    wanted = dukemtmc(root)
    shutil.copytree(ours, other)
    with caplog.at_level("INFO", "transreid.datasets"):
        assert dukemtmc(root) == wanted
    assert f"{ours} is read, not {other}" in caplog.text
    shutil.rmtree(root / "dukemtmcreid")
    data = dukemtmc(root)
    assert [r.path.replace(str(other), str(ours)) for r in data.train] == [r.path for r in wanted.train]
    assert [r[1:4] for r in data.query] == [r[1:4] for r in wanted.query]
    shutil.rmtree(other)
    with pytest.raises(FileNotFoundError, match=f"{ours} or {other}: no such folder, expected there: bound"):
        dukemtmc(root)
