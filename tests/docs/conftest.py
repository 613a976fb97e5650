"""The README's own images, and a folder in which its commands for them have been typed."""

import logging

import open_clip
import pytest

from model.clip import OPENAI_NAMES
from tests.docs.reading import OWN, ROOT, VISION, block_of, save_image, save_people, settings_of
from tests.toys import write_tower


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
        for words in OWN:
            quick = ["DATALOADER.NUM_WORKERS", "0", "SOLVER.STAGE1.MAX_EPOCHS", "2"]
            quick += ["MODEL.PRETRAIN_CHOICE", "none"] if words[1].startswith("train") else []
            config, args, main = settings_of(words, quick)
            main(config, args)
        yield own_data
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate, logger.level = before
