"""Golden records of the reference, trees of empty files made from them, and a small configuration."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from yacs.config import CfgNode

from datasets import ImageRecord, ReIDDataset, Trial

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def golden_records():
    return json.loads((GOLDEN / "datasets.json").read_text())


@pytest.fixture
def golden_tree(golden_records, tmp_path):
    """A function: name of a data set → ROOT_DIR with an empty file for each of its golden records."""

    def build(name: str) -> Path:
        for split in ("train", "query", "gallery"):
            touch(tmp_path, *(path for path, *_ in golden_records[name][split]))
        return tmp_path

    return build


@pytest.fixture
def touch_files():
    return touch


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def golden_form(golden_records):
    """A function: data set, split, root → (its records as the golden file writes them, the golden ones)."""

    def form(dataset, split: str, root: Path):
        records = sorted(
            [Path(r.path).relative_to(root).as_posix(), *r[1:4]] for r in getattr(dataset, split)
        )
        return records, golden_records[dataset.name][split]

    return form


@pytest.fixture
def save_image():
    """A function: path, size (W, H), colour → that image, with some noise, on disk."""

    def save(path: Path, size: tuple[int, int] = (8, 16), colour: int = 128) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(colour).integers(-20, 20, (size[1], size[0], 3))
        Image.fromarray((noise + colour).clip(0, 255).astype(np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def dataset(tmp_path, save_image):
    """4 training identities with 3, 4, 5 and 6 images; 2 trials over 5 images."""

    def record(split, pid, i):
        path = save_image(tmp_path / split / f"{pid}_{i}.png", colour=20 * pid + i)
        return ImageRecord(str(path), pid, i % 2, 0)

    train = [record("train", pid, i) for pid in range(4) for i in range(3 + pid)]
    test = [record("test", 1 + i % 2, i) for i in range(5)]
    return ReIDDataset("x", train, [Trial(test[:2], test[2:]), Trial(test[1:3], test[3:])], "person")


@pytest.fixture
def data_cfg(tmp_path):
    """The keys that the data room reads, in a tree of two stages, small sizes."""
    return CfgNode(
        {
            "DATASETS": {
                "NAMES": "market1501",
                "TRAIN_ALSO": "",
                "TEST": "",
                "ROOT_DIR": str(tmp_path),
                "CSV": "dataset.csv",
                "SUBJECT": "",
                "VEHICLEID_TEST_SIZE": 800,
                "DOWNLOAD": False,
            },
            "MODEL": {"SIE_CAMERA": False, "SIE_VIEW": False},
            "INPUT": {
                "SIZE_TRAIN": [32, 16],
                "SIZE_TEST": [32, 16],
                "PROB": 0.5,
                "ORIENTATION": "auto",
                "PADDING": 2,
                "RE_PROB": 0.5,
                "RE_MODE": "pixel",
                "TEST_RESIZE": "bilinear",
                "PIXEL_MEAN": [0.5, 0.5, 0.5],
                "PIXEL_STD": [0.5, 0.5, 0.5],
            },
            "DATALOADER": {
                "SAMPLER": "softmax_triplet",
                "NUM_INSTANCE": 2,
                "NUM_WORKERS": 0,
                "CACHE": False,
                "ON_ERROR": "raise",
            },
            "SOLVER": {
                "SEED": 7,
                "STAGE1": {"IMS_PER_BATCH": 5},
                "STAGE2": {"IMS_PER_BATCH": 4, "ITERS": -1},
            },
            "TEST": {"IMS_PER_BATCH": 3},
        }
    )
