"""tools/extract.py and the lines of Python see images as the test program does, by the model card."""

import logging

import pytest
import torch

import clipreid
from config import cfg_base
from config.load import load_config
from model import make_card, make_model
from processor import METHODS
from processor import test as run_test
from retrieval import RetrievalTask
from tests.toys import SETTINGS, draw_market, words
from tools import extract

OTHER = {
    "MODEL.STRIDE_SIZE": "[7, 7]",
    "INPUT.SIZE_TRAIN": "[41, 26]",
    "INPUT.SIZE_TEST": "[41, 26]",
    "INPUT.PIXEL_MEAN": "[0.1, 0.2, 0.7]",
    "INPUT.PIXEL_STD": "[0.9, 0.3, 0.2]",
    "INPUT.TEST_RESIZE": "bicubic",
    "TEST.NECK_FEAT": "after",
    "MODEL.SIE_CAMERA": "True",
    "MODEL.SIE_COE": "3.0",
}


@pytest.fixture
def tested(toy_towers, tmp_path_factory):
    """(weights, features of the test program) of a model with other settings than published."""
    folder = tmp_path_factory.mktemp("run")
    settings = SETTINGS | OTHER | {"DATASETS.ROOT_DIR": str(draw_market(folder, (1, 2), (3, 4)))}
    config = load_config(cfg_base, "", words(settings))
    torch.manual_seed(0)
    model = make_model(config, 2, 6, 1)
    with torch.no_grad():
        model.cv_embed.normal_()
        for neck in (model.bottleneck, model.bottleneck_proj):
            neck.running_mean.normal_()
            neck.running_var.uniform_(0.2, 2)
    path = folder / "toy-vit_1.pth"
    torch.save(model.state_dict(), path)
    make_card(config, model, "baseline", data="market1501", versions={}).write(path)
    plain = {"DATASETS.ROOT_DIR": settings["DATASETS.ROOT_DIR"], "OUTPUT_DIR": str(folder / "logs")}
    pairs = words(SETTINGS | plain | {"TEST.WEIGHT": str(path), "TEST.SIE": "mean"})
    args = type("Args", (), {"opts": pairs[-4:], "config_file": "", "local_rank": 0})
    run_test(load_config(cfg_base, "", pairs), args, method=METHODS["baseline"])
    return path, RetrievalTask.load(folder / "logs" / "features.npz").images


def cosines(found, wanted):
    assert found.paths == wanted.paths
    return (found.normalized().features * wanted.normalized().features).sum(dim=1)


def ones(count):
    return torch.ones(count)


def test_the_tool(tested, tmp_path, capsys):
    path, wanted = tested
    out = tmp_path / "a.npz"
    options = ["--weight", str(path), "--out", str(out), "--workers", "0", "--device", "cpu"]
    assert extract.main([*options, "--images", *wanted.paths]) == 0
    torch.testing.assert_close(cosines(clipreid.FeatureSet.load(out), wanted), ones(len(wanted)))
    printed = capsys.readouterr().out
    assert "WARNING" not in printed and "by the model card" in printed
    assert extract.main([*options, "--mean", "0.5", "0.5", "0.5", "--images", *wanted.paths]) == 0
    printed = capsys.readouterr().out
    assert "mean (0.5, 0.5, 0.5) is used as given" in printed and "(0.1, 0.2, 0.7)" in printed
    assert cosines(clipreid.FeatureSet.load(out), wanted).max() < 0.999


def test_the_lines_of_python(tested, caplog):
    path, wanted = tested
    found = clipreid.load_model(path, device="cpu").encode_image(wanted.paths)
    torch.testing.assert_close(cosines(found, wanted), ones(len(wanted)))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_without_the_card_what_is_assumed_is_said(tested, tmp_path, caplog):
    path, wanted = tested
    bare = tmp_path / path.name
    bare.write_bytes(path.read_bytes())
    with caplog.at_level(logging.WARNING, "transreid.model"):
        found = clipreid.load_model(bare, device="cpu", size=(41, 26)).encode_image(wanted.paths)
    assert cosines(found, wanted).max() < 0.9
    assert f"{bare} has no model card: assumed are mean (0.5, 0.5, 0.5), " in caplog.text
    assert "41x26 at stride 8x8 is taken" in caplog.text and "41x26 at stride 7x7" in caplog.text
    settings = {"mean": (0.1, 0.2, 0.7), "std": (0.9, 0.3, 0.2), "resize": "bicubic", "neck_feature": "after"}
    model = clipreid.load_model(bare, device="cpu", size=(41, 26), stride=(7, 7), sie_scale=3.0, **settings)
    torch.testing.assert_close(cosines(model.encode_image(wanted.paths), wanted), ones(len(wanted)))
