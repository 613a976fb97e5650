"""Published files and CLIP's own in text search, and published files in programs for re-id."""

import json

import open_clip
import pytest
import torch

from model.names import published_names
from tests.untrusted.weight_files import write_published
from tools import extract

TEST = "test_tbps.py"


@pytest.fixture
def data(own_captions):
    return "DATASETS.ROOT_DIR", str(own_captions)


@pytest.fixture
def clip(tmp_path, toy_towers):
    """CLIP's own weights of the toy tower."""
    torch.manual_seed(0)
    clip = open_clip.CLIP(**open_clip.get_model_config("toy-vit"))
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    return tmp_path / "clip.pt"


@pytest.fixture
def published(tmp_path, clip):
    """A published file of the toy tower, for images of 32 x 32 pixels."""
    path = tmp_path / "checkpoint_best.pth"
    heads = {"simclr_mlp.0.weight": torch.ones(8, 16)}
    write_published(path, published_names(torch.load(clip, weights_only=True)) | heads)
    return path


def told_in_log(folder):
    return (folder / "test_log.txt").read_text(encoding="utf-8")


def test_a_published_file_is_tested(start, data, published, tmp_path):
    out = tmp_path / "logs"
    status, _, err = start(TEST, *data, "TEST.WEIGHT", str(published), "OUTPUT_DIR", str(out))
    assert (status, err) == (0, "")
    log = told_in_log(out)
    for words in ("optimizer, config", "heads of training are left out: simclr_mlp", "adopted from the file"):
        assert words in log
    assert "Rank-1" in log and json.loads((out / "metrics.json").read_text())["size"] == [32, 32]


def test_clip_is_tested_and_named(start, data, clip, tmp_path):
    out = tmp_path / "logs"
    status, _, err = start(TEST, *data, "TEST.WEIGHT", str(clip), "OUTPUT_DIR", str(out))
    assert (status, err) == (0, "")
    assert "zero-shot" in told_in_log(out)


def test_text_search_files_in_tests_of_re_id(refused, published):
    pairs = ("MODEL.PRETRAIN_CHOICE", "imagenet", "TEST.WEIGHT", str(published))
    refused("test_pcl.py", *pairs, told=[published, "a text search model, which test_tbps.py reads"])


def test_text_search_files_in_tools_for_re_id(published, own_captions, capsys):
    options = ("--weight", published, "--images", own_captions, "--out", own_captions / "out.npz")
    with pytest.raises(SystemExit) as ended:
        extract.main([str(word) for word in (*options, "--device", "cpu")])
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.count("\n") == 1
    assert str(published) in err and "a text search model, which test_tbps.py reads" in err
