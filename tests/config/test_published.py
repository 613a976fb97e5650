"""Every merged value of the default trees and the published files, and what the other shipped files add."""

import json

import pytest
import yaml

from config import cfg, cfg_base, cfg_pcl, cfg_tbps
from config.check import check_config, unused_keys
from config.load import leaves, load_config

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
PCL = {
    "configs/pcl/cnn_pcl.yml": {
        "MODEL.NAME": "RN50",
        "MODEL.FREEZE_PATCHES": False,
        "INPUT.PIXEL_MEAN": [0.485, 0.456, 0.406],
        "INPUT.PIXEL_STD": [0.229, 0.224, 0.225],
    },
    "configs/pcl/vit_pcl_sie.yml": {"MODEL.SIE_CAMERA": True, "MODEL.SIE_COE": 1.0},
    "configs/pcl/vit_pcl_vehicle.yml": {
        "INPUT.SIZE_TRAIN": [256, 256],
        "INPUT.SIZE_TEST": [256, 256],
        "DATASETS.NAMES": "veri",
    },
    "configs/pcl/vit_pcl_usl.yml": {"MODEL.ID_LOSS_WEIGHT": 0.0, "CLUSTER.METHOD": "dbscan"},
}
CLIPREID_PCL = "configs/person/vit_clipreid_pcl.yml"
TBPS = ["configs/tbps/vit_tbps.yml", "configs/tbps/vit_tbps_simplified.yml"]
ALTCLIP = "configs/tbps/vit_altclip.yml"
SMALL = [f"configs/small/{name}.yml" for name in ("scratch_base", "vit_base", "vit_clipreid")]
SHIPPED = [*FILES, *SIE_OLP, CLIPREID_PCL, "configs/pcl/vit_pcl.yml", *PCL, *TBPS, ALTCLIP, *SMALL]
# What pcl-vit.yml of the published PCL-CLIP sets, but for folders.
PUBLISHED_PCL = {
    "MODEL.NAME": "ViT-B-16",
    "MODEL.STRIDE_SIZE": [16, 16],
    "MODEL.ID_LOSS_WEIGHT": 0.25,
    "MODEL.PCL_LOSS_WEIGHT": 1.0,
    "MODEL.MEMORY_MOMENTUM": 0.2,
    "INPUT.SIZE_TRAIN": [256, 128],
    "INPUT.SIZE_TEST": [256, 128],
    "INPUT.PROB": 0.5,
    "INPUT.RE_PROB": 0.5,
    "INPUT.PIXEL_MEAN": [0.5, 0.5, 0.5],
    "INPUT.PIXEL_STD": [0.5, 0.5, 0.5],
    "INPUT.PADDING": 10,
    "DATASETS.NAMES": "market1501",
    "DATALOADER.NUM_WORKERS": 8,
    "DATALOADER.NUM_INSTANCE": 8,
    "SOLVER.IMS_PER_BATCH": 256,
    "SOLVER.OPTIMIZER_NAME": "SGD",
    "SOLVER.MAX_EPOCHS": 60,
    "SOLVER.BASE_LR": 3.5e-4,
    "SOLVER.WEIGHT_DECAY": 5.0e-4,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.STEPS": [30, 50],
    "SOLVER.WARMUP_FACTOR": 0.1,
    "SOLVER.WARMUP_ITERS": 10,
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.CHECKPOINT_PERIOD": 60,
    "SOLVER.LOG_PERIOD": 50,
    "SOLVER.EVAL_PERIOD": 60,
    "SOLVER.ITERS": 200,
    "TEST.IMS_PER_BATCH": 64,
    "TEST.RE_RANKING": False,
    "TEST.EVAL": True,
}


@pytest.fixture(scope="module")
def published(repository):
    return json.loads((repository / "tests/golden/configs.json").read_text())


def tree_of(name):
    trees = {"pcl": cfg_pcl, "tbps": cfg_tbps}
    return trees.get(name.split("/")[1], cfg_base if "base" in name else cfg)


@pytest.mark.parametrize(("name", "tree"), [("defaults", cfg), ("defaults_base", cfg_base)])
def test_defaults_are_the_published_ones(published, name, tree):
    wanted = published[name] | {"DATALOADER.NUM_WORKERS": -1}  # published: 8, whatever the machine
    values = {key: value for key, value in leaves(tree).items() if key in wanted}
    assert values == wanted
    assert {key: type(value) for key, value in values.items()} == {
        key: type(value) for key, value in wanted.items()
    }


@pytest.mark.parametrize("file", FILES)
def test_merged_values_are_the_published_ones_and_else_the_defaults(repository, published, file):
    folder, stem = file.removeprefix("configs/").removesuffix(".yml").split("/")
    own = {"DATALOADER.NUM_WORKERS": -1, "OUTPUT_DIR": f"logs/{folder}/{stem}"}
    tree = tree_of(file)
    assert leaves(load_config(tree, repository / file)) == leaves(tree) | published[file] | own


@pytest.mark.parametrize("file", SIE_OLP)
def test_sie_olp_files_differ_from_their_base_in_these_keys_only(repository, file):
    parent, more = SIE_OLP[file]
    options = {"MODEL.SIE_CAMERA": True, "MODEL.SIE_COE": 1.0, "MODEL.STRIDE_SIZE": [12, 12]}
    output = file.removeprefix("configs/").removesuffix(".yml")
    wanted = leaves(load_config(cfg, repository / parent)) | options | more | {"OUTPUT_DIR": f"logs/{output}"}
    assert leaves(load_config(cfg, repository / file)) == wanted


def test_pcl_has_the_published_values(repository):
    values = leaves(load_config(cfg_pcl, repository / "configs/pcl/vit_pcl.yml"))
    ours = {
        "DATALOADER.NUM_WORKERS": -1,
        "MODEL.PRETRAIN_CHOICE": "imagenet",
        "OUTPUT_DIR": "logs/pcl/vit_pcl",
    }
    assert values == leaves(cfg_pcl) | PUBLISHED_PCL | ours


def test_the_published_pcl_file_means_the_same(repository, tmp_path):
    """Its keys alone, with the name as it is written there: what it has no key for is in the defaults."""
    tree: dict[str, dict] = {}
    for key, value in (PUBLISHED_PCL | {"DATASETS.NAMES": "('market1501')"}).items():
        group, name = key.split(".")
        tree.setdefault(group, {})[name] = value
    (tmp_path / "pcl-vit.yml").write_text(yaml.safe_dump(tree))
    config = load_config(cfg_pcl, tmp_path / "pcl-vit.yml")
    check_config(config)
    shipped = leaves(load_config(cfg_pcl, repository / "configs/pcl/vit_pcl.yml"))
    assert leaves(config) == shipped | {"DATALOADER.NUM_WORKERS": 8, "OUTPUT_DIR": ""}


@pytest.mark.parametrize("tree", [cfg_pcl, cfg_base])
def test_pcl_files_load_into_the_one_stage_tree_as_well(repository, tree):
    """test.py takes them too: the defaults that only training reads are in the file."""
    values = leaves(load_config(tree, repository / "configs/pcl/vit_pcl.yml"))
    assert values == leaves(load_config(cfg_pcl, repository / "configs/pcl/vit_pcl.yml"))


@pytest.mark.parametrize("file", PCL)
def test_pcl_files_differ_from_their_base_in_these_keys_only(repository, file):
    output = file.removeprefix("configs/").removesuffix(".yml")
    wanted = leaves(load_config(cfg_pcl, repository / "configs/pcl/vit_pcl.yml")) | PCL[file]
    assert leaves(load_config(cfg_pcl, repository / file)) == wanted | {"OUTPUT_DIR": f"logs/{output}"}


def test_clipreid_with_prototypes_differs_in_these_keys_only(repository):
    wanted = leaves(load_config(cfg, repository / "configs/person/vit_clipreid.yml"))
    wanted |= {"MODEL.PCL_LOSS_WEIGHT": 1.0, "OUTPUT_DIR": "logs/person/vit_clipreid_pcl"}
    assert leaves(load_config(cfg, repository / CLIPREID_PCL)) == wanted


@pytest.mark.parametrize("file", SHIPPED)
def test_shipped_files_pass_the_checks_without_warning(repository, file):
    config = load_config(tree_of(file), repository / file)
    check_config(config)
    assert unused_keys(config) == {}
    assert config.TEST.AMP == "off"  # the published tests are in float32


@pytest.mark.parametrize("file", SHIPPED)
def test_the_head_of_a_file_names_the_program_and_the_file(repository, file):
    head = "\n".join((repository / file).read_text().splitlines()[:4])
    folder = file.split("/")[1]
    method = f"_{folder}" if folder in ("pcl", "tbps") else "" if "base" in file else "_clipreid"
    assert f" train{method}.py --config_file {file}" in head


def test_no_shipped_file_is_left_out(repository):
    found = {
        path.relative_to(repository).as_posix()
        for folder in ("person", "veri", "VehicleID", "pcl", "tbps", "small")
        for path in (repository / "configs" / folder).iterdir()
    }
    assert found == set(SHIPPED)
