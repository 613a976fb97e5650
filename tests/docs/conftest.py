"""The README's own images, and a folder in which its commands for them have been typed."""

import logging

import open_clip
import pytest
import torch

from config import cfg_tbps
from config.load import load_config
from model import make_text_search_card, make_text_search_model
from model.clip import OPENAI_NAMES
from tests.docs.reading import OWN, ROOT, VISION, block_of, save_image, save_people, settings_of
from tests.toys import words, write_tower


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """A working directory with the README's own data, exactly as written there."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "configs").symlink_to(ROOT / "configs")
    save_people(folder)
    listing = block_of("README.md", "csv", "path,pid")
    for line in listing.splitlines()[1:]:
        save_image(folder / "my_crops" / line.split(",")[0])
    (folder / "my_crops" / "dataset.csv").write_text(listing)
    return folder


def save_text_search(path):
    """A checkpoint of text search with its card, as training would write it."""
    settings = {
        "MODEL.PRETRAIN_CHOICE": "none",
        "MODEL.STRIDE_SIZE": [8, 8],
        "MODEL.SS_LOSS_WEIGHT": 0.0,
        "INPUT.SIZE_TRAIN": [32, 32],
        "INPUT.SIZE_TEST": [32, 32],
    }
    config = load_config(cfg_tbps, "", words(settings))
    model = make_text_search_model(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    make_text_search_card(config, model, "tbps", data="cuhk_pedes", versions={}).write(path)


@pytest.fixture(scope="module")
def reader(own_data):
    """The same directory after the README's commands for it, with a tiny tower for ViT-B-16."""
    open_clip.add_model_config(write_tower(own_data / "tiny.json", vision_cfg=VISION))
    logger = logging.getLogger("transreid")
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPENAI_NAMES, "ViT-B-16", "tiny")
        patch.chdir(own_data)
        for command in OWN:
            quick = ["DATALOADER.NUM_WORKERS", "0", "SOLVER.STAGE1.MAX_EPOCHS", "2"]
            quick += ["MODEL.PRETRAIN_CHOICE", "none"] if command[1].startswith("train") else []
            config, args, main = settings_of(command, quick)
            main(config, args)
        save_text_search(own_data / "logs/tbps/ViT-B-16_5.pth")
        yield own_data
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate, logger.level = before
