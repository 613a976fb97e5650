"""Toy models, a folder of people, and the program as a function."""

import logging
import shutil
from pathlib import Path

import pytest
import torch

from config import cfg_base
from config.load import load_config
from model import make_card, make_model
from tests import toys

SIZE = {"INPUT.SIZE_TRAIN": "[32, 16]", "INPUT.SIZE_TEST": "[32, 16]"}


@pytest.fixture(scope="session")
def weights(toy_towers, tmp_path_factory):
    """Files of two re-id models and one of text search."""
    folder = tmp_path_factory.mktemp("weights")
    config = load_config(cfg_base, "", toys.words(toys.MODEL | SIZE))
    for name in ("toy-vit_1.pth", "toy-vit_2.pth"):
        torch.manual_seed(int(name[8]))
        model = make_model(config, 2, 2, 1)
        torch.save(model.state_dict(), folder / name)
        make_card(config, model, "base", data="market1501", versions={}).write(folder / name)
    text = toys.save_text_model(folder / "text.pth")
    return str(folder / "toy-vit_1.pth"), str(folder / "toy-vit_2.pth"), str(text)


@pytest.fixture(scope="session")
def filled(weights, tmp_path_factory):
    """A folder with `people` and the gallery that they were added to, both spaces."""
    pytest.importorskip("pymilvus")
    from tools import gallery

    folder = tmp_path_factory.mktemp("filled")
    save_people(folder / "people")
    logger = logging.getLogger("transreid")
    before = logger.handlers, logger.propagate, logger.level
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        models = ["--weight", weights[0], "--text-weight", weights[2]]
        assert gallery.main(["create", "g.db", *models]) == 0
        assert gallery.main(["add", "g.db", "people", *models, "--workers", "0"]) == 0
    logger.handlers, logger.propagate, logger.level = before
    return folder


def save_people(folder):
    """people/anna, ben, carla: three pictures each, by cameras c1, c2, c3."""
    for number, name in enumerate(("anna", "ben", "carla")):
        for camera in (1, 2, 3):
            toys.save_noise(folder / name / f"{name}_c{camera}.png", 10 * number + camera)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch, filled):
    """The working folder, with a copy of the filled gallery, whose paths are those of the pictures there."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(place, capsys):
    """run('list', 'g.db') -> what was printed."""
    from tools import gallery

    def run_program(*argv):
        assert gallery.main([str(word) for word in argv]) == 0
        return capsys.readouterr().out

    return run_program


@pytest.fixture
def refused(place, capsys):
    """refused('list', 'gone.db') -> the one line on stderr."""
    from tools import gallery

    def run_program(*argv):
        with pytest.raises(SystemExit) as end:
            gallery.main([str(word) for word in argv])
        error = capsys.readouterr().err
        assert end.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
        return error.removeprefix("error: ").rstrip("\n")

    return run_program


@pytest.fixture
def entries():
    """entries('g.db') -> the entries by the file name of their path."""
    from retrieval import Gallery

    def read(address="g.db"):
        with Gallery.open(address) as gallery:
            return {Path(entry.metadata.path).name: entry for entry in gallery.entries()}

    return read
