"""INPUT.ORIENTATION: own photographs are turned upright, the published sets are read as stored."""

import numpy as np
import pytest
import torch
from PIL import Image

from config import cfg_base
from config.load import load_config
from datasets import make_dataloader, make_dataset

SETTINGS = {"auto": None, "exif": True, "stored": False}
MARKET = ("bounding_box_train/0001_c1_1.jpg", "bounding_box_train/0001_c2_1.jpg", "query/0002_c1_1.jpg")
MARKET += ("bounding_box_test/0002_c2_1.jpg",)
OWN = ("train/a/1_c1.jpg", "train/a/2_c2.jpg", "query/b/1_c1.jpg", "gallery/b/2_c2.jpg")


@pytest.fixture(params=["folder", "csv", "market1501"])
def photographs(request, tmp_path):
    """The name of a data set of four photographs on their side: black, with the upper half white."""
    upright = np.zeros((32, 16, 3), np.uint8)
    upright[:16] = 255
    exif = Image.Exif()
    exif[274] = 6  # the first stored row is the right side
    names = OWN
    if request.param == "market1501":
        names = [f"Market-1501-v15.09.15/{name}" for name in MARKET]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(tmp_path / name, exif=exif)
    rows = [f"{name},{name.split('/')[1]},{name.split('/')[0]},{name[-5]}" for name in OWN]
    (tmp_path / "dataset.csv").write_text("\n".join(["path,pid,split,camid", *rows]))
    return request.param


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_loader_turns_as_the_setting_says(photographs, tmp_path, setting, cache):
    pairs = ["DATASETS.NAMES", photographs, "DATASETS.ROOT_DIR", str(tmp_path), "MODEL.NAME", "ViT-B-16"]
    pairs += ["INPUT.SIZE_TRAIN", [32, 16], "INPUT.SIZE_TEST", [32, 16], "INPUT.ORIENTATION", setting]
    pairs += ["INPUT.PADDING", 0, "INPUT.PROB", 0.0, "DATALOADER.NUM_WORKERS", 0, "DATALOADER.CACHE", cache]
    cfg = load_config(cfg_base, "", list(map(str, [*pairs, "SOLVER.IMS_PER_BATCH", 2])))
    dataset = make_dataset(cfg)
    turned = photographs != "market1501" if SETTINGS[setting] is None else SETTINGS[setting]
    assert dataset.upright == turned
    loaders = make_dataloader(cfg, dataset)
    for loader in (loaders.train, loaders.plain, loaders.test):
        images = torch.cat([batch.images for batch in loader]).float()
        upper, lower = images[:, :, :12].mean(), images[:, :, 20:].mean()
        assert (upper > 250 and lower < 5) if turned else abs(upper - lower) < 5
