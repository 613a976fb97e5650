"""Settings that end a text search program before any training, in one line."""

import pytest
import yaml

from tests.toys import draw_captions, words, write_tower

TRAIN, TEST = "train_tbps.py", "test_tbps.py"
OFF = {f"MODEL.{name}_LOSS_WEIGHT": "0" for name in ("NITC", "RITC", "CITC", "SS")}


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """ROOT_DIR of eight people for training and four for tests."""
    return draw_captions(tmp_path_factory.mktemp("captions"))


@pytest.fixture
def refuse(refused, captions):
    """refuse('train_tbps.py', {KEY: VALUE, …}, told=[…]) on the captions of this file."""

    def run(program, settings, told, **more):
        pairs = words({"DATASETS.ROOT_DIR": str(captions)} | settings)
        return refused(program, *pairs, told=told, **more)

    return run


def test_the_settings_of_this_folder_are_fine(start, captions):
    status, out, err = start(TRAIN, *words({"DATASETS.ROOT_DIR": str(captions), "SOLVER.MAX_EPOCHS": "1"}))
    assert (status, err) == (0, "") and "Validation Results - Epoch: 1" in out


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"DATASETS.NAMES": "cuhk_peds"}, ["DATASETS.NAMES 'cuhk_peds'", "'cuhk_pedes'?", "rstpreid"]),
        ({"DATASETS.NAMES": "market1501"}, ["DATASETS.NAMES 'market1501'", "icfg_pedes", "csv"]),
        ({"SOLVER.IMS_PER_BATCH": "64"}, ["SOLVER.IMS_PER_BATCH is 64", "32 training pairs", "up to 32"]),
        ({"MODEL.SIMCLR_MLP": "[512, 128, 512]"}, ["MODEL.SIMCLR_MLP is [512, 128, 512]; allowed: 16"]),
        ({"MODEL.SIMCLR_MLP": "512"}, ["MODEL.SIMCLR_MLP is 512; expected: list of 3 ints"]),
        ({"MODEL.TEXT_LENGTH": "3"}, ["MODEL.TEXT_LENGTH is 3; allowed: 4 or more"]),
        ({"MODEL.TEXT_DROPOUT": "1"}, ["MODEL.TEXT_DROPOUT is 1.0; allowed: 0 to below 1"]),
        (OFF, ["MODEL.NITC_LOSS_WEIGHT", "are 0; allowed: one or both above 0"]),
        (
            {"MODEL.SIE_CAMERA": "True"},
            ["MODEL.SIE_CAMERA is a key of train_clipreid.py", "nearest key here"],
        ),
        ({"MODEL.NITC_WEIGHT": "1"}, ["unknown key MODEL.NITC_WEIGHT", "MODEL.NITC_LOSS_WEIGHT"]),
        ({"experiment.ss_ratio": "1"}, ["experiment.ss_ratio is a key of published files", "SS_LOSS_WEIGHT"]),
        ({"MODEL.STRIDE_SIZE": "[9, 8]"}, ["[9, 8]", "allowed: 1 to the patch size [8, 8]"]),
        ({"MODEL.NAME": "ViT-B-17"}, ["'ViT-B-17'", "allowed: 'ViT-B-16', 'RN50'"]),
        ({"MODEL.NAME": "ViT-B-16-SigLIP"}, ["ViT-B-16-SigLIP", "allowed:"]),
        ({"MODEL.DIST_TRAIN": "True"}, ["MODEL.DIST_TRAIN is True", "torchrun", "allowed: False"]),
        ({"INPUT.SIZE_TEST": "[64, 32]"}, ["INPUT.SIZE_TEST is [64, 32]; allowed in training", "[32, 16]"]),
        ({"INPUT.MIXGEN": "on"}, ["INPUT.MIXGEN is 'on'; allowed: 'none', 'ori', 'cat'"]),
        ({"DATALOADER.ON_ERROR": "skip"}, ["DATALOADER.ON_ERROR is 'skip'; allowed: 'raise'"]),
        ({"OUTPUT_DIR": ""}, ["OUTPUT_DIR is empty; allowed:"]),
        ({"TEST.DIRECTION": "both"}, ["TEST.DIRECTION is 'both'; allowed: 'text_to_image', 'image_to_text'"]),
    ],
)
def test_settings(refuse, settings, told):
    refuse(TRAIN, settings, told)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SOLVER.MICRO_BATCH": "2"}, ["SOLVER.MICRO_BATCH is 2; allowed with this image tower: 0"]),
        ({"MODEL.MLM_LOSS_WEIGHT": "1"}, ["MODEL.MLM_LOSS_WEIGHT", "allowed"]),
    ],
)
def test_what_a_resnet_cannot_do(refuse, tmp_path, settings, told):
    tower = write_tower(tmp_path / "resnet.json", "toy-resnet", embed_dim=64)
    size = {f"INPUT.SIZE_{name}": "[64, 32]" for name in ("TRAIN", "TEST")}
    given = {"MODEL.NAME": str(tower), "MODEL.SIMCLR_MLP": "[64, 8, 16]", **size}
    refuse(TRAIN, given | settings, told)


def test_words_are_not_predicted_at_every_width(refuse, tmp_path):
    tower = write_tower(tmp_path / "odd.json", embed_dim=200)
    given = {"MODEL.NAME": str(tower), "MODEL.SIMCLR_MLP": "[200, 8, 16]", "MODEL.MLM_LOSS_WEIGHT": "1"}
    refuse(TRAIN, given, ["MODEL.MLM_LOSS_WEIGHT", "MODEL.NAME is 200; allowed", "multiples of 3"])


def test_published_files(refuse, tmp_path):
    file = tmp_path / "config.yaml"
    options = ["--config_file", str(file)]
    for content, told in (
        ({"experiment": {"sss": True}}, [file, "line 2", "unknown key experiment.sss", "experiment.ss"]),
        ({"misc": {"seed": "one"}}, [file, "line 2: misc.seed: SOLVER.SEED is 'one'; expected: int"]),
        ({"misc": {"seed": -1}}, ["SOLVER.SEED is -1; allowed:", file, "line 2: misc.seed"]),
        ({"model": {"ckpt_type": "saved"}}, [file, "model.ckpt_type is 'saved' and needs model.saved_path"]),
    ):
        file.write_text(yaml.safe_dump(content))
        refuse(TRAIN, {}, told, options=options)
    file.write_text("model: {ckpt_type: original_clip, saved_path: out, checkpoint: CLIP checkpoint path}\n")
    refuse(TEST, {}, ["TEST.WEIGHT is empty; allowed:"], options=options)


def test_both_ways_to_name_a_file(start):
    options = ["--simplified", "--config_file", "configs/tbps/vit_tbps.yml"]
    status, _, err = start(TEST, options=options)
    assert status == 2 and "not allowed with argument" in err.splitlines()[-1]
