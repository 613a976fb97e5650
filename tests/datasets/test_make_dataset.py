import logging

import pytest

from config.subject import prompt_subject
from datasets import make_dataset


@pytest.fixture
def csv_cfg(data_cfg, tmp_path):
    rows = ["path,pid,split,camid", "1.jpg,1,train,1", "2.jpg,2,query,1", "3.jpg,2,gallery,2"]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    data_cfg.merge_from_list(["DATASETS.NAMES", "csv", "DATASETS.CSV", "mine.csv"])
    return data_cfg


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "occ_duke"])
def test_reads_by_name(golden_tree, golden_records, data_cfg, name, caplog):
    golden_tree(name)
    data_cfg.DATASETS.NAMES = name
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        data = make_dataset(data_cfg)
    assert (data.name, len(data.train)) == (name, golden_records[name]["n_train"])
    assert f"Data set {name} at" in caplog.text
    assert data.table() in caplog.text
    assert make_dataset(data_cfg, need_train=False).train == []
    assert data.subject == prompt_subject(data_cfg)  # which the model room uses


def test_folder_by_name(data_cfg, tmp_path, touch_files):
    touch_files(tmp_path, "train/1/a.jpg", "query/2/b.jpg", "gallery/2/c.jpg")
    data_cfg.DATASETS.NAMES = "folder"
    assert len(make_dataset(data_cfg).gallery) == 1


def test_vehicleid_takes_size_and_seed(data_cfg, tmp_path):
    lists = tmp_path / "VehicleID_V1.0" / "train_test_split"
    lists.mkdir(parents=True)
    (lists / "test_list_1600.txt").write_text("".join(f"{i} {i % 4}\n" for i in range(40)))
    data_cfg.merge_from_list(["DATASETS.NAMES", "VehicleID", "DATASETS.VEHICLEID_TEST_SIZE", 1600])
    first = make_dataset(data_cfg, need_train=False)
    assert first.trials == make_dataset(data_cfg, need_train=False).trials
    data_cfg.SOLVER.SEED = 8
    assert first.trials != make_dataset(data_cfg, need_train=False).trials


def test_veri_needs_labels_for_views(data_cfg, tmp_path, touch_files):
    names = ["image_train/0001_c001_0.jpg", "image_query/0002_c001_0.jpg", "image_test/0002_c002_0.jpg"]
    touch_files(tmp_path / "VeRi", *names)
    data_cfg.DATASETS.NAMES = "veri"
    assert make_dataset(data_cfg).num_train_views == 1
    data_cfg.MODEL.SIE_VIEW = True
    with pytest.raises(FileNotFoundError, match="viewpoint labels missing"):
        make_dataset(data_cfg)


def test_csv_file_and_subject_come_from_the_configuration(csv_cfg):
    assert make_dataset(csv_cfg).subject == "person"
    csv_cfg.DATASETS.SUBJECT = "truck"
    assert make_dataset(csv_cfg).subject == "truck"


@pytest.mark.parametrize("names", [("csv",), ["csv"]])
def test_a_tuple_of_one_name_is_that_name(csv_cfg, names):
    csv_cfg.DATASETS["NAMES"] = names
    assert make_dataset(csv_cfg).name == "csv"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("market1510", "DATASETS.NAMES 'market1510' is unknown, did you mean 'market1501'.*msmt17, veri"),
        ("VEHICLEID", "did you mean 'VehicleID'"),
        ("zzz", "DATASETS.NAMES 'zzz' is unknown, allowed are market1501, dukemtmc"),
        (("veri", "csv"), r"DATASETS.NAMES \('veri', 'csv'\) has 2 names, allowed is one"),
    ],
)
def test_bad_names(data_cfg, names, message):
    data_cfg.DATASETS["NAMES"] = names
    with pytest.raises(ValueError, match=message):
        make_dataset(data_cfg)


def test_a_missing_root_is_named(data_cfg, tmp_path):
    data_cfg.DATASETS.ROOT_DIR = str(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder.*market1501 \(DATASETS.ROOT_DIR\)"):
        make_dataset(data_cfg)
