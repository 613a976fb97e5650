import logging
import shutil
from dataclasses import replace
from pathlib import Path

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


@pytest.mark.parametrize(
    ("needs", "told", "left_out"),
    [({"need_train": False}, "query  ", "train  "), ({"need_test": False}, "train  ", "query  ")],
)
def test_the_log_has_the_splits_that_are_read(data_cfg, tmp_path, touch_files, caplog, needs, told, left_out):
    """Also where the folder of the other one is there."""
    touch_files(tmp_path, "train/1/a.jpg", "query/2/b.jpg", "gallery/2/c.jpg")
    data_cfg.DATASETS.NAMES = "folder"
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        data = make_dataset(data_cfg, **needs)
    assert bool(data.train) == needs.get("need_train", True) and bool(data.query) != bool(data.train)
    assert told in caplog.text and left_out not in caplog.text


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
        *(
            (names, "DATASETS.NAMES has 2 names, veri, csv.*DATASETS.TRAIN_ALSO.*DATASETS.TEST")
            for names in (("veri", "csv"), ["veri", "csv"], "veri,csv")
        ),
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


# ---- further training sets, and another test set


def test_training_sets_are_joined_and_another_one_is_tested(
    golden_tree, golden_records, golden_form, data_cfg, caplog
):
    for name in ("dukemtmc", "market1501", "occ_duke"):
        root = golden_tree(name)
    data_cfg.merge_from_list(["DATASETS.TRAIN_ALSO", " dukemtmc", "DATASETS.TEST", "occ_duke"])
    needless = ["Market-1501-v15.09.15/query", "Market-1501-v15.09.15/bounding_box_test"]
    for folder in (*needless, "dukemtmcreid/DukeMTMC-reID/query"):
        shutil.rmtree(root / folder)
    shutil.rmtree(root / "dukemtmcreid/Occluded_Duke/bounding_box_train")
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        data = make_dataset(data_cfg)
    market, duke = (golden_records[name] for name in ("market1501", "dukemtmc"))
    assert data.name == "market1501+dukemtmc" and [len(p.train) for p in data.parts] == [38, 32]
    assert golden_form(data.parts[1], "train", root)[0] == duke["train"]
    moved = [[path, pid + 9, cam + 6, view] for path, pid, cam, view in duke["train"]]
    found = [[str(Path(r.path).relative_to(root)), *r[1:4]] for r in data.train]
    assert sorted(found) == sorted(market["train"] + moved)
    # Cameras of another site follow all: they have no row in a table of the training cameras.
    golden = golden_records["occ_duke"]
    moved = [[path, pid, cam + 14, view] for path, pid, cam, view in golden["query"]]
    assert golden_form(replace(data, name="occ_duke"), "query", root)[0] == moved
    assert f"at {root}, query and gallery of occ_duke" in caplog.text and data.table() in caplog.text
    # A test reads the tested set only.
    shutil.rmtree(root / "Market-1501-v15.09.15")
    tested = make_dataset(data_cfg, need_train=False)
    assert (tested.name, tested.train, tested.parts) == ("occ_duke", [], ())
    assert golden_form(tested, "gallery", root)[0] == golden["gallery"]


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "occ_duke", "veri"])
def test_training_needs_no_test_split_of_its_own(golden_tree, golden_records, data_cfg, touch_files, name):
    root = golden_tree(name)
    for path in [*root.rglob("*query"), *root.rglob("*_test")]:
        shutil.rmtree(path)
    touch_files(root, "query/2/b.jpg", "gallery/2/c.jpg")
    data_cfg.merge_from_list(["DATASETS.NAMES", name, "DATASETS.TEST", "folder"])
    data = make_dataset(data_cfg)
    assert len(data.train) == golden_records[name]["n_train"] and len(data.query) == 1


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("msmt17", {"MSMT17/list_train.txt": "0/0_0_01_.jpg 4", "MSMT17/list_val.txt": "9/9_0_03_.jpg 9"}),
        (
            "msmt17",
            {
                "MSMT17/bounding_box_train/0004_c1_0.jpg": "",
                "MSMT17/bounding_box_train/0009_c3_0.jpg": "",
            },
        ),
        ("VehicleID", {"VehicleID_V1.0/train_test_split/train_list.txt": "1 4\n2 9"}),
        ("veri", {"VeRi/image_train/4_c1.jpg": "", "VeRi/image_train/9_c3.jpg": ""}),
        ("csv", {"dataset.csv": "path,pid,split,camid\n1.jpg,4,train,1\n2.jpg,9,train,3"}),
        ("folder", {"train/4/a_c1.jpg": "", "train/9/a_c3.jpg": ""}),
    ],
)
def test_training_files_are_enough_to_train_and_test_elsewhere(
    golden_tree, data_cfg, touch_files, name, files
):
    root = golden_tree("market1501")
    touch_files(root, *files, "MSMT17/mask_train_v2/0/0_0_01_.jpg")
    for path, text in files.items():
        (root / path).write_text(text)
    if name == "veri":
        views = [f"{path}.jpg {'0 ' * 40}5\n" for path in ("4_c1", "9_c3")]
        (root / "VeRi/keypoint_train.txt").write_text("".join(views))
        data_cfg.MODEL.SIE_VIEW = True
    data_cfg.merge_from_list(["DATASETS.NAMES", name, "DATASETS.TEST", "market1501"])
    data = make_dataset(data_cfg)
    assert data.name == name and [record.pid for record in data.train] == [0, 1]
    assert len(data.query) == 21


@pytest.mark.parametrize("name", ["csv", "folder"])
def test_own_images_join_published_ones(golden_tree, data_cfg, touch_files, name):
    root = golden_tree("market1501")
    rows = ["path,pid,split,camid", "1.jpg,5,train,9", "2.jpg,5,train,-1", "3.jpg,7,train,4"]
    (root / "dataset.csv").write_text("\n".join(rows))
    touch_files(root, "train/5/1_c9.jpg", "train/5/2.jpg", "train/7/3_c4.jpg")
    data_cfg.DATASETS.TRAIN_ALSO = name
    own = make_dataset(data_cfg).train[-3:]
    assert [(record.pid, record.camid) for record in own] == [(9, 7), (9, -1), (10, 6)]


@pytest.mark.parametrize(
    ("also", "test", "told"),
    [
        ("market1501", "", "TRAIN_ALSO is 'market1501', but market1501 has the people of market1501"),
        ("dukemtmc,msmt17,dukemtmc", "", "dukemtmc has the people of dukemtmc"),
        ("dukemtmc,occ_duke", "", "occ_duke has the people of dukemtmc"),
        ("market", "", "DATASETS.TRAIN_ALSO 'market' is unknown.*market1501"),
        ("dukemtmc,", "", "DATASETS.TRAIN_ALSO '' is unknown.*market1501"),
        ("", "Veri", "DATASETS.TEST 'Veri' is unknown, did you mean 'veri'"),
        ("veri", "", r"SUBJECT is ''.*market1501 \(person\), veri \(vehicle\)"),
    ],
)
def test_what_cannot_be_joined(golden_tree, data_cfg, also, test, told):
    golden_tree("market1501"), golden_tree("veri")
    data_cfg.merge_from_list(["DATASETS.TRAIN_ALSO", also, "DATASETS.TEST", test])
    data_cfg.MODEL.TEXT = "prompts"
    with pytest.raises(ValueError, match=told):
        make_dataset(data_cfg)


def test_one_noun_joins_people_and_vehicles(golden_tree, data_cfg, caplog):
    golden_tree("market1501"), golden_tree("veri")
    data_cfg.DATASETS.TRAIN_ALSO = "veri"
    data_cfg.MODEL.TEXT = "none"  # nor is there a prompt here
    assert make_dataset(data_cfg).num_train_pids == 16
    data_cfg.merge_from_list(["DATASETS.SUBJECT", "object"])
    data_cfg.MODEL.TEXT = "prompts"
    assert make_dataset(data_cfg).subject == "object"
