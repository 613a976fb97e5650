"""Every merged value of the default trees and the published files, and what the other shipped files add."""

import json

import pytest

from config import cfg, cfg_base
from config.check import check_config, unused_keys
from config.load import leaves, load_config

TWO_STAGE_KEYS, ONE_STAGE_KEYS = 89, 71
FILES = [
    f"configs/{folder}/{name}.yml"
    for folder, second in (("person", "clipreid"), ("veri", "prom"), ("VehicleID", "clipreid"))
    for name in (f"cnn_{second}", f"vit_{second}", "cnn_base", "vit_base")
]
SIE_OLP = {
    "configs/person/vit_clipreid_sie_olp.yml": ("configs/person/vit_clipreid.yml", {}),
    "configs/veri/vit_prom_sie_olp.yml": (
        "configs/veri/vit_prom.yml",
        {"MODEL.SIE_VIEW": True, "DATASETS.NAMES": "veri"},
    ),
    "configs/VehicleID/vit_clipreid_sie_olp.yml": (
        "configs/VehicleID/vit_clipreid.yml",
        {"DATASETS.NAMES": "VehicleID"},
    ),
}
OURS = {
    "MODEL.PRETRAIN_TAG": "openai",
    "MODEL.STAGE1_WEIGHT": "",
    "DATASETS.CSV": "dataset.csv",
    "DATASETS.SUBJECT": "",
    "DATASETS.VEHICLEID_TEST_SIZE": 800,
    "DATASETS.CHECK_IMAGES": True,
    "DATASETS.ALLOW_OUTSIDE": False,
    "DATALOADER.NUM_WORKERS": -1,  # published: 8, whatever the machine
    "DATALOADER.CACHE": False,
    "DATALOADER.ON_ERROR": "raise",
    "SOLVER.AMP": "auto",
    "SOLVER.COMPILE": False,
    "SOLVER.MICRO_BATCH": 0,
    "SOLVER.GRAD_CHECKPOINT": False,
    "SOLVER.SYNC_BN": True,
    "SOLVER.DETERMINISTIC": False,
    "SOLVER.SAVE_EVERY_MIN": 10.0,
    "SOLVER.KEEP": 0,
    "TEST.AMP": "auto",
    "TEST.SIE": "auto",
    "TEST.EVAL_BEFORE_TRAINING": False,
    "TEST.RERANK_K1": 50,
    "TEST.RERANK_K2": 15,
    "TEST.RERANK_LAMBDA": 0.3,
    "TEST.FEATURES": "features.npz",
}


@pytest.fixture(scope="module")
def published(repository):
    return json.loads((repository / "tests/golden/configs.json").read_text())


def tree_of(name):
    return cfg_base if "base" in name else cfg


def ours(name):
    return OURS if "base" in name else OURS | {"SOLVER.STAGE1.HALF_FEATURES": False}


def test_the_golden_file_holds_both_trees_and_twelve_files(published):
    assert set(published) == {"defaults", "defaults_base", *FILES}
    assert len(published["defaults"]) == TWO_STAGE_KEYS
    assert len(published["defaults_base"]) == ONE_STAGE_KEYS


@pytest.mark.parametrize("name", ["defaults", "defaults_base"])
def test_defaults_are_the_published_ones_and_ours(published, name):
    values = leaves(tree_of(name))
    assert values == published[name] | ours(name)
    assert {key: type(values[key]) for key in published[name]} == {
        key: type(value) for key, value in published[name].items()
    }


@pytest.mark.parametrize("file", FILES)
def test_merged_values_are_the_published_ones(repository, published, file):
    values = leaves(load_config(tree_of(file), repository / file))
    folder, stem = file.removeprefix("configs/").removesuffix(".yml").split("/")
    assert values == published[file] | ours(file) | {"OUTPUT_DIR": f"logs/{folder}/{stem}"}


@pytest.mark.parametrize("file", SIE_OLP)
def test_sie_olp_files_differ_from_their_base_in_these_keys_only(repository, file):
    parent, more = SIE_OLP[file]
    options = {"MODEL.SIE_CAMERA": True, "MODEL.SIE_COE": 1.0, "MODEL.STRIDE_SIZE": [12, 12]}
    output = file.removeprefix("configs/").removesuffix(".yml")
    wanted = leaves(load_config(cfg, repository / parent)) | options | more | {"OUTPUT_DIR": f"logs/{output}"}
    assert leaves(load_config(cfg, repository / file)) == wanted


@pytest.mark.parametrize("file", [*FILES, *SIE_OLP])
def test_shipped_files_pass_the_checks_without_warning(repository, file):
    config = load_config(tree_of(file), repository / file)
    check_config(config)
    assert unused_keys(config, tree_of(file)) == []


@pytest.mark.parametrize("file", [*FILES, *SIE_OLP])
def test_the_head_of_a_file_names_the_program_and_the_file(repository, file):
    head = "\n".join((repository / file).read_text().splitlines()[:4])
    program = "train.py" if "base" in file else "train_clipreid.py"
    assert f"python {program} --config_file {file}" in head


def test_no_shipped_file_is_left_out(repository):
    found = {
        path.relative_to(repository).as_posix()
        for folder in ("person", "veri", "VehicleID")
        for path in (repository / "configs" / folder).iterdir()
    }
    assert found >= {*FILES, *SIE_OLP}
