"""Text search: the published YAML files mean what ours mean; each mistake in one; keys of the method."""

import pytest
import yaml

from config import TABLES, cfg_base, cfg_tbps
from config.check import check_training, unused_keys
from config.foreign import Setting, translate
from config.keys import Foreign, words
from config.load import leaves, load_config, notes

# What both published files say, and where they differ.
BOTH = {
    "device": 5,
    "experiment.input_resolution": [224, 224],
    "experiment.simclr_mlp": [512, 128, 512],
    "experiment.simclr_temperature": 0.1,
    "experiment.dropout": 0.05,
    "experiment.eda_alpha": 0.05,
    "experiment.back_trans": True,
    "experiment.backtrans_p": 0.1,
    "experiment.text_length": 77,
    "experiment.mixgen": False,
    "experiment.mixgen_type": "cat",
    "experiment.mixgen_p": 0.1,
    "experiment.mixgen_ratio": 0.1,
    "experiment.nitc_ratio": 1.0,
    "experiment.ss_ratio": 0.4,
    "experiment.ritc": True,
    "experiment.ritc_eps": 1.0e-2,
    "experiment.ritc_ratio": 1.0,
    "experiment.mlm": False,
    "experiment.mlm_ratio": 1.0,
    "experiment.cmt_depth": 4,
    "experiment.citc_lambda1": 0.25,
    "experiment.citc_lambda2": 0.25,
    "experiment.citc_ratio": 0.1,
    "experiment.id": False,
    "experiment.id_ratio": 1.0,
    "schedule.lr": 1.0e-4,
    "schedule.epoch": 5,
    "schedule.epoch_warmup": 1,
    "schedule.lr_start": 1.0e-6,
    "schedule.lr_end": 5.0e-6,
    "schedule.weight_decay": 0.02,
    "schedule.betas": [0.9, 0.98],
    "schedule.eps": 1.0e-8,
    "model.ckpt_type": "original_clip",
    "model.checkpoint": "CLIP checkpoint path",
    "model.use_gather": True,
    "model.softlabel_ratio": 0.5,
    "model.embed_dim": 512,
    "model.vocab_size": 49408,
    "log.print_period": 50,
    "data.batch_size": 80,
    "data.test_batch_size": 256,
    "data.num_workers": 8,
    "distributed.backend": "nccl",
    "distributed.url": "env://",
    "anno_dir": "annotation json path",
    "image_dir": "image path",
}
DIFFERENT = {
    "misc.seed": (1, 0),
    "experiment.mvs_image": (True, False),
    "experiment.ss": (True, False),
    "experiment.citc": (True, False),
    "model.saved_path": ("ckpts/f.baseline/CUHK-PEDES", "ckpts/s.baseline/CUHK-PEDES"),
}
FULL, SIMPLIFIED = (BOTH | {key: pair[place] for key, pair in DIFFERENT.items()} for place in (0, 1))
# By nature: the loaders' processes, and the folder of the run.
OURS = {"DATALOADER.NUM_WORKERS": -1}


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.fixture
def published(tmp_path):
    """published(key=value, …) -> the full file with these values by full key; None leaves one out."""

    def write(changes=(), file=FULL, name="config.yaml"):
        tree: dict = {}
        for key, value in (file | dict(changes)).items():
            *groups, last = key.split(".")
            node = tree
            for group in groups:
                node = node.setdefault(group, {})
            if value is not None:
                node[last] = value
        (tmp_path / name).write_text(yaml.safe_dump(tree, sort_keys=False))
        return tmp_path / name

    return write


def load(file, *pairs):
    return load_config(cfg_tbps, file, pairs)


def fails(file, *pairs):
    with pytest.raises(ValueError) as caught:
        check_training(load(file, *pairs))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("file", "ours", "folder"),
    [
        (FULL, "configs/tbps/vit_tbps.yml", "ckpts/f.baseline/CUHK-PEDES"),
        (SIMPLIFIED, "configs/tbps/vit_tbps_simplified.yml", "ckpts/s.baseline/CUHK-PEDES"),
    ],
)
def test_both_files_mean_the_same_as_ours(published, repository, monkeypatch, file, ours, folder):
    monkeypatch.setenv("WORLD_SIZE", "4")  # of which the README speaks
    config = load(published(file=file))
    check_training(config)
    assert unused_keys(config) == {}
    assert leaves(config) | OURS == leaves(load(repository / ours)) | {"OUTPUT_DIR": folder}


def test_the_simplified_file_differs_from_the_full_one_in_these_keys_only(published):
    full, simplified = leaves(load(published())), leaves(load(published(file=SIMPLIFIED)))
    assert {key: value for key, value in simplified.items() if value != full[key]} == {
        "MODEL.MULTI_VIEW": False,
        "MODEL.SS_LOSS_WEIGHT": 0.0,
        "MODEL.CITC_LOSS_WEIGHT": 0.0,
        "SOLVER.SEED": 0,
        "OUTPUT_DIR": "ckpts/s.baseline/CUHK-PEDES",
    }


def test_every_key_of_the_files_is_in_the_table_and_every_target_in_the_tree():
    (table,) = (table for table in TABLES if table.published)
    rows = table.published
    assert {row.name for row in rows} == FULL.keys() | {"schedule.ratio_factor"}
    for row in rows:
        targets = {*row.keys, *row.also, *row.otherwise}
        assert targets <= table.keys.keys(), row.name
        switches = {other.needs[0] for other in rows if other.needs}
        assert bool(targets) != bool(row.unused) or row.name in switches, row.name


@pytest.mark.parametrize("key", sorted(FULL))
def test_every_key_of_the_file_changes_a_setting_or_is_named_in_the_log(published, key):
    """A value of its own for each key: nothing is taken without a word."""
    value = FULL[key]
    other = {
        bool: lambda: not value,
        int: lambda: value + 1,
        float: lambda: value / 2,
        str: lambda: "saved" if key == "model.ckpt_type" else "ori",
        list: lambda: value[::-1] if len(set(value)) == len(value) else [each * 2 for each in value],
    }[type(value)]()
    on = {f"experiment.{name}": True for name in ("mixgen", "mlm", "id") if not key.endswith(f".{name}")}
    if key == "model.use_gather":
        assert "losses always see the batch" in fails(published({key: other}))
        return
    config, before = load(published({key: other} | on)), load(published(on))
    told = [line for line in notes(config) if line.startswith(f"{key} ")]
    changed = leaves(config) != leaves(before)
    assert changed or "has no effect: " in told[0]
    assert changed != any("has no effect: " in line for line in told)


def test_the_batch_is_that_of_all_processes(published, monkeypatch):
    for processes, batch in (("1", 80), ("3", 240)):
        monkeypatch.setenv("WORLD_SIZE", processes)
        assert batch == load(published()).SOLVER.IMS_PER_BATCH
    assert load(published(), "SOLVER.IMS_PER_BATCH", "64").SOLVER.IMS_PER_BATCH == 64


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"experiment.mlm": True}, {"MODEL.MLM_LOSS_WEIGHT": 1.0}),
        ({"experiment.id": True, "experiment.id_ratio": 0.3}, {"MODEL.ID_LOSS_WEIGHT": 0.3}),
        ({"experiment.ritc": False}, {"MODEL.RITC_LOSS_WEIGHT": 0.0}),
        ({"experiment.back_trans": False}, {"INPUT.BACK_TRANSLATION": 0.0}),
        ({"experiment.mixgen": True}, {"INPUT.MIXGEN": "cat"}),
        ({"experiment.mixgen": True, "experiment.mixgen_type": "ori"}, {"INPUT.MIXGEN": "ori"}),
        ({"experiment.input_resolution": [384, 128]}, {"INPUT.SIZE_TRAIN": [384, 128]}),
        ({"schedule.ratio_factor": 3}, {"SOLVER.NEW_LR_FACTOR": 3.0}),
        ({"schedule.lr": "1e-5"}, {"SOLVER.BASE_LR": 1e-5}),
        ({"model.checkpoint": "ViT-B-16.pt"}, {"MODEL.PRETRAIN_PATH": "ViT-B-16.pt"}),
        (
            {"model.ckpt_type": "saved", "model.saved_path": "a/checkpoint_best.pth"},
            {"TEST.WEIGHT": "a/checkpoint_best.pth", "MODEL.PRETRAIN_PATH": "a/checkpoint_best.pth"},
        ),
        (
            {"anno_dir": "data/RSTP,Reid"},
            {"DATASETS.NAMES": "captions", "DATASETS.ROOT_DIR": "data/RSTP,Reid"},
        ),
        ({"anno_dir": 2024}, {"DATASETS.ROOT_DIR": "2024"}),
    ],
)
def test_meanings(published, changes, wanted):
    values = leaves(load(published(changes)))
    assert {key: values[key] for key in wanted} == wanted


def test_a_saved_file_is_no_folder_for_the_run(published):
    config = load(published({"model.ckpt_type": "saved", "model.saved_path": "a.pth"}))
    assert config.OUTPUT_DIR == ""
    told = fails(published({"model.ckpt_type": "saved", "model.saved_path": "a.pth"}))
    assert told.startswith("OUTPUT_DIR is empty")


def test_the_folder_of_images_is_relative_to_the_working_directory(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(published({"anno_dir": "annotations", "image_dir": "../imgs"}))
    assert (tmp_path / config.DATASETS.ROOT_DIR / config.DATASETS.IMAGE_DIR).resolve() == (
        tmp_path.parent / "imgs"
    )


def test_places_that_are_left_as_published_are_not_set(published):
    """So that the file as it came is used with KEY VALUE pairs."""
    config = load(published(), "DATASETS.NAMES", "rstpreid")
    assert (config.DATASETS.NAMES, config.DATASETS.IMAGE_DIR) == ("rstpreid", "imgs")
    assert (config.MODEL.PRETRAIN_PATH, config.DATASETS.ROOT_DIR) == ("", cfg_tbps.DATASETS.ROOT_DIR)


def test_what_was_done_is_told_with_a_count(published):
    lines = notes(load(published()))
    silent = [line for line in lines if "has no effect: " in line]
    assert lines[0].startswith(f"{len(FULL) - len(silent)} keys") and len(silent) == 13
    assert "data.batch_size 80 -> SOLVER.IMS_PER_BATCH 80" in lines
    assert "experiment.mlm False -> MODEL.MLM_LOSS_WEIGHT 0.0" in lines
    assert lines[-1].startswith("missing (1)")
    assert lines[-1].endswith(": schedule.ratio_factor (SOLVER.NEW_LR_FACTOR)")
    for key in ("device", "model.use_gather", "model.embed_dim", "data.test_batch_size", "distributed.url"):
        assert any(line.startswith(f"{key} ") for line in silent)
    assert notes(load("configs/tbps/vit_tbps.yml")) == []


def test_notes_stay_with_a_configuration_that_is_loaded_again(published):
    first = load(published())
    assert notes(load_config(first, "", ["SOLVER.SEED", "3"])) == notes(first)
    assert notes(first.clone()) == notes(first)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"experiment.s_ratio": 0.4}, ["line", "unknown key experiment.s_ratio", "experiment.ss_ratio"]),
        (
            {"model.chekpoint": "a"},
            ["unknown key model.chekpoint; the nearest known key is model.checkpoint"],
        ),
        ({"anno": "a"}, ["unknown key anno; the nearest known key is anno_dir"]),
        (
            {"experiment": 5},
            ["config.yaml, line 2", "experiment is 5", "a group of keys", "e.g. experiment."],
        ),
        ({"misc.seed": "one"}, ["config.yaml, line 67: misc.seed: SOLVER.SEED is 'one'; expected: int"]),
        ({"misc.seed": -1}, ["SOLVER.SEED is -1; allowed: 0 to", "config.yaml, line 67: misc.seed"]),
        ({"experiment.ss": "yes please"}, ["experiment.ss is 'yes please'; allowed: True, False"]),
        (
            {"experiment.mixgen": True, "experiment.mixgen_type": "mix"},
            ["INPUT.MIXGEN is 'mix'", "mixgen_type"],
        ),
        (
            {"experiment.mlm": True, "experiment.mlm_ratio": None},
            ["experiment.mlm is True", "needs experiment.mlm_ratio"],
        ),
        (
            {"experiment.mlm": None},
            ["experiment.mlm_ratio needs experiment.mlm, which is missing"],
        ),
        ({"experiment.input_resolution": 224}, ["INPUT.SIZE_TRAIN is 224; expected: list of 2 ints"]),
        (
            {"experiment.text_length": 3},
            ["MODEL.TEXT_LENGTH is 3; allowed: 4 or more", "experiment.text_length"],
        ),
        ({"schedule.betas": [0.9]}, ["schedule.betas: SOLVER.BETAS is [0.9]; expected: list of 2 floats"]),
        (
            {"data.batch_size": "80 each"},
            ["data.batch_size: SOLVER.IMS_PER_BATCH is '80 each'; expected: int"],
        ),
        ({"data.batch_size": 0}, ["SOLVER.IMS_PER_BATCH is 0; allowed: 1 or more", "data.batch_size"]),
        ({"model.ckpt_type": "best"}, ["model.ckpt_type is 'best'; allowed: 'original_clip', 'saved'"]),
        ({"model.ckpt_type": None}, ["model.checkpoint needs model.ckpt_type, which is missing"]),
        ({"model.use_gather": False}, ["model.use_gather is False; allowed: True, because losses"]),
        ({"model.saved_path": ["a"]}, ["model.saved_path: OUTPUT_DIR is ['a']; expected: str"]),
        (
            {
                "experiment.ss": False,
                "experiment.citc": False,
                "experiment.ritc": False,
                "experiment.nitc_ratio": 0,
            },
            ["MODEL.NITC_LOSS_WEIGHT", "are 0; allowed: one or both above 0"],
        ),
    ],
)
def test_mistakes(published, changes, told):
    message = fails(published(changes))
    for text in told:
        assert text in message


def test_published_keys_are_for_files(published):
    told = fails(published(), "experiment.ss_ratio", "0.4").removeprefix("command line: experiment.ss_ratio ")
    assert told == "is a key of published files only; here it is MODEL.SS_LOSS_WEIGHT"
    assert fails(published(), "experiment.s_ratio", "1").startswith(
        "command line: unknown key experiment.s_ratio"
    )


def test_other_programs_do_not_take_the_file(published):
    with pytest.raises(ValueError, match=r"line 1: device is a key of train_tbps\.py, test_tbps\.py only"):
        load_config(cfg_base, published())


def test_a_file_of_ours_may_build_on_a_published_one_and_the_other_way_round(published, tmp_path):
    published({"experiment.ss": False})
    child = tmp_path / "child.yml"
    child.write_text("_BASE_: config.yaml\nexperiment: {ss: true}\nSOLVER: {SEED: 3}\n")
    config = load(child)
    assert (config.SOLVER.SEED, config.MODEL.SS_LOSS_WEIGHT, config.SOLVER.MAX_EPOCHS) == (3, 0.4, 5)
    (tmp_path / "ours.yml").write_text("SOLVER: {SEED: 3, MAX_EPOCHS: 7}\n")
    child.write_text("_BASE_: ours.yml\nmisc: {seed: 4}\n")
    config = load(child)
    assert (config.SOLVER.SEED, config.SOLVER.MAX_EPOCHS) == (4, 7)


def test_a_translation_without_published_keys_changes_nothing():
    rows = [Foreign("a.b", ("A",), needs=("a.on", words(True)))]
    settings = [Setting("A", 1, "f.yml", "1"), Setting("a.b", None, "f.yml", "")]
    assert translate(settings, rows) == (settings[:1], 0, [])
    assert translate(settings, []) == (settings, 0, [])
