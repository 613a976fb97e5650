"""Settings that end a program before any training, in one line: key, value, what is allowed."""

import pytest


def test_the_settings_of_this_folder_are_fine(start, tmp_path):
    status, out, err = start("train_clipreid.py")
    assert (status, err) == (0, "") and "Epoch[2]" in out
    assert (tmp_path / "logs" / "toy-vit_1.pth").is_file()


@pytest.mark.parametrize(
    ("program", "key", "value", "told"),
    [
        ("train.py", "MODEL.NMAE", "RN50", ["unknown key MODEL.NMAE", "nearest known key is MODEL.NAME"]),
        ("test.py", "TEST.WIEGHT", "x.pth", ["unknown key TEST.WIEGHT", "TEST.WEIGHT"]),
        ("train.py", "SOLVER.STAGE2.MAX_EPOCHS", "3", ["train_clipreid.py", "nearest key here"]),
        ("train_clipreid.py", "SOLVER.MAX_EPOCHS", "3", ["train.py", "SOLVER.STAGE"]),
        ("train_clipreid.py", "SOLVER.STAGE2.MAX_EPOCHS", "many", ["'many'", "expected: int"]),
        ("train_clipreid.py", "MODEL.STRIDE_SIZE", "12", ["MODEL.STRIDE_SIZE is 12", "list of 2 ints"]),
        (
            "train_clipreid.py",
            "MODEL.STRIDE_SIZE",
            "[9, 8]",
            ["[9, 8]", "allowed: 1 to the patch size [8, 8]"],
        ),
        ("train_clipreid.py", "MODEL.NAME", "ViT-B-17", ["'ViT-B-17'", "allowed: 'ViT-B-16', 'RN50'"]),
        ("train_clipreid.py", "MODEL.NAME", "convnext_base", ["no plain CLIP towers", "allowed:"]),
        ("train_clipreid.py", "MODEL.DEVICE", "gpu", ["MODEL.DEVICE is 'gpu'; allowed: 'cuda', 'cpu'"]),
        (
            "train_clipreid.py",
            "DATASETS.NAMES",
            "market1502",
            ["'market1502'", "'market1501'?", "msmt17", "csv"],
        ),
        (
            "train_clipreid.py",
            "INPUT.SIZE_TEST",
            "[64, 32]",
            ["is [64, 32]; allowed in training", "[32, 16]"],
        ),
        (
            "train_clipreid.py",
            "SOLVER.STAGE2.IMS_PER_BATCH",
            "5",
            ["is 5; allowed: multiples of", "NUM_INSTANCE 2"],
        ),
        (
            "train_clipreid.py",
            "SOLVER.STAGE2.IMS_PER_BATCH",
            "64",
            ["2 identities", "64", "up to 4"],
        ),
        (
            "train_clipreid.py",
            "SOLVER.STAGE1.SAMPLER",
            "graph",
            ["SOLVER.STAGE1.IMS_PER_BATCH is 64", "DATALOADER.NUM_INSTANCE 2", "2 identities", "to 4"],
        ),
        ("train_pcl.py", "DATALOADER.GRAPH_FEATURES", "text", ["'text'", "allowed: 'auto', 'image'"]),
        ("train.py", "MODEL.DIST_TRAIN", "True", ["MODEL.DIST_TRAIN is True", "torchrun", "allowed: False"]),
        ("train_clipreid.py", "OUTPUT_DIR", "", ["OUTPUT_DIR is empty; allowed:"]),
        ("test_clipreid.py", "TEST.RERANK_LAMBDA", "3", ["TEST.RERANK_LAMBDA is 3.0; allowed: 0 to 1"]),
        ("train.py", "LOG.TRACKER", "wandb", ["LOG.TRACKER is 'wandb'; allowed: 'none'", "'tensorboard'"]),
        ("train_clipreid.py", "LOG.TRACKER", "none,tensorboard", ["LOG.TRACKER is", "allowed"]),
        ("train_tbps.py", "LOG.TRACKER", "mlflow,mlflow", ["LOG.TRACKER is", "'mlflow'"]),
        ("train_pcl.py", "LOG.RUN", "a/b", ["LOG.RUN is 'a/b'; allowed: the name of a folder"]),
        ("train.py", "LOG.EXPERIMENT", "..", ["LOG.EXPERIMENT is '..'; allowed: the name of a folder"]),
        ("train.py", "LOG.PICTURES_EVERY", "-1", ["LOG.PICTURES_EVERY is -1; allowed: 0 or more"]),
        ("train.py", "TEST.FEATURES", "a/b.npz", ["TEST.FEATURES is 'a/b.npz'; allowed: the name of a file"]),
        ("test_clipreid.py", "TEST.WEIGHT", "", ["TEST.WEIGHT is empty; allowed: the path of a checkpoint"]),
        ("test_clipreid.py", "TEST.WEIGHT", "/nowhere/a.pth", ["no weights file at /nowhere/a.pth"]),
        ("test_clipreid.py", "TEST.NECK_FEAT", "behind", ["'behind'; allowed: 'before', 'after'"]),
    ],
)
def test_settings(refused, program, key, value, told):
    refused(program, key, value, told=told)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("mlruns", ["LOG.URI is 'mlruns'; allowed:", "sqlite:///"]),
        ("http://me:hidden@host", ["LOG.URI holds", "password", "MLFLOW_TRACKING_PASSWORD"]),
    ],
)
def test_addresses_of_trackers(refused, uri, told):
    refused("train.py", "LOG.TRACKER", "mlflow", "LOG.URI", uri, told=told)


def test_images_smaller_than_a_patch(refused):
    pairs = ("INPUT.SIZE_TRAIN", "[4, 16]", "INPUT.SIZE_TEST", "[4, 16]")
    refused("train_clipreid.py", *pairs, told=["4x16 pixels", "smaller than the tower's patch (8, 8)"])


def test_configuration_files(refused, tmp_path):
    refused(
        "train.py", options=["--config_file", "configs/gone.yml"], told=["configs/gone.yml", "does not exist"]
    )
    (tmp_path / "bad.yml").write_text("MODEL:\n  NAME: RN50\n   BAD: 1\n")
    options = ["--config_file", str(tmp_path / "bad.yml")]
    refused("train.py", options=options, told=[tmp_path / "bad.yml", "line 3", "not valid YAML"])


@pytest.mark.parametrize("program", ["train.py", "train_clipreid.py", "test.py"])
def test_output_folder_with_a_file_in_its_way(refused, tmp_path, program):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(program, "OUTPUT_DIR", str(folder), told=[f"OUTPUT_DIR {folder} is not writable"])
