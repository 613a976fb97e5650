"""The zero-shot program: what it reports and writes, and its errors in one line."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.io import savemat

from config import cfg_tbps
from config.load import load_config
from datasets import read_image, templates
from datasets import test_transform as plain_transform
from datasets.attributes import read_market_attributes
from model import class_features, load_clip, make_text_search_card, make_text_search_model
from retrieval import RetrievalTask, evaluate_task, metrics_record
from tests.conftest import GOLDEN, draw_clip
from tests.toys import TEXT_SETTINGS, TOWERS, words

PROGRAM = "zero_shot.py"
MARKET = str(GOLDEN / "prompts" / "market_attribute.mat")
FUSED = ("--attributes", MARKET, "--mm")


@pytest.fixture
def clip(toy_towers, drawn_clip, tmp_path):
    """KEY, VALUE, … of a toy CLIP."""
    torch.save(drawn_clip(TOWERS["toy-vit"]), tmp_path / "clip.pt")
    return ("MODEL.PRETRAIN_CHOICE", "clip", "MODEL.PRETRAIN_PATH", str(tmp_path / "clip.pt"))


@pytest.fixture
def weight(start, clip, tmp_path):
    """A checkpoint of one epoch."""
    assert start("train_clipreid.py", *clip)[0] == 0
    return str(shutil.move(tmp_path / "logs", tmp_path / "trained")) + "/toy-vit_1.pth"


def outputs(folder):
    assert {"features.npz", "metrics.json", "test_log.txt"} <= {path.name for path in folder.iterdir()}
    return RetrievalTask.load(folder / "features.npz"), json.loads((folder / "metrics.json").read_text())


def test_fused_features_of_a_checkpoint(start, clip, weight, tmp_path):
    """Two tests and one of them with sentences: the files, and features that follow from the other's."""
    pairs = (*clip, "TEST.WEIGHT", weight, "TEST.AUGMENT", "flip")
    status, out, err = start("test_clipreid.py", *pairs)
    assert (status, err) == (0, "")
    plain, _ = outputs(tmp_path / "logs")
    for options, factor in (([*FUSED], 1), ([*FUSED, "2.5", "--augmented_template"], 2.5)):
        status, out, err = start(PROGRAM, *pairs, "OUTPUT_DIR", str(tmp_path / "mm"), options=options)
        assert (status, err) == (0, "")
        assert out.count("Validation Results") == 2 == out.count("mAP: ") and "without fusion" in out
        task, fused = outputs(tmp_path / "mm")
        about = {"file": MARKET, "people": 40, "augmented": factor != 1, "weight": factor}
        assert fused["attributes"] == about and "rank1" in fused and fused["augment"] == "flip"
        features, want = task.images.features, plain.images.features
        assert torch.equal(features[:, :64], want[:, :64]) and features.shape[1] == 64 + 40
        same = replace(plain, images=replace(plain.images, features=want[:, :64])).normalized()
        assert fused["without_fusion"] == json.loads(json.dumps(metrics_record(evaluate_task(same))))
        tower = load_clip("toy-vit", "clip", clip[-1], "")
        people = enumerate(read_market_attributes(MARKET))
        classes = class_features(tower, [templates(each, i, augmented=factor != 1) for i, each in people])
        logits = F.normalize(want[:, 64:], dim=1) @ classes.T / 0.07
        torch.testing.assert_close(features[:, 64:], factor * logits.softmax(dim=1), rtol=1e-4, atol=1e-5)


def test_clip_itself_without_a_checkpoint(start, clip, tmp_path):
    """An own table; features of CLIP's tower, and of open_clip's own at CLIP's own size."""
    table = tmp_path / "people.csv"
    table.write_text("identity,sentence\n1,a man in red\n2,a woman with a bag\n3,somebody\n")
    size = ("INPUT.SIZE_TEST", "[32, 32]", "TEST.AUGMENT", "none")
    status, _, err = start(PROGRAM, *clip, *size, options=["--attributes", str(table), "--mm", "3"])
    assert (status, err) == (0, "")
    task, metrics = outputs(tmp_path / "logs")
    assert task.images.features.shape[1] == 64 + 3 and metrics["weight"] == clip[-1]
    torch.testing.assert_close(task.images.features[:, 64:].sum(dim=1), torch.full((len(task.images),), 3.0))
    assert start(PROGRAM, *clip, *size, "OUTPUT_DIR", str(tmp_path / "plain"))[0] == 0
    task, metrics = outputs(tmp_path / "plain")
    assert task.images.features.shape[1] == 64 + 16 and "attributes" not in metrics
    tower = load_clip("toy-vit", "clip", clip[-1], "").eval()
    images = [plain_transform((32, 32), [0.5] * 3, [0.5] * 3)(read_image(path)) for path in task.images.paths]
    with torch.no_grad():
        want = tower.encode_image(torch.stack(images))
    torch.testing.assert_close(task.images.features[:, 64:], want, rtol=1e-3, atol=1e-4)


def test_without_fusion_is_weight_0(start, clip, weight, tmp_path):
    """Of another CLIP than the checkpoint's, which one warning says; of its own there is none."""
    other = tmp_path / "other.pt"
    torch.save(draw_clip(TOWERS["toy-vit"], "other/"), other)
    pairs = (*clip, "TEST.WEIGHT", weight)
    status, out, _ = start(PROGRAM, *pairs, options=[*FUSED, "0"])
    assert status == 0 and "another text tower" not in out
    _, metrics = outputs(tmp_path / "logs")
    assert metrics["without_fusion"] == {name: metrics[name] for name in metrics["without_fusion"]}
    status, out, _ = start(PROGRAM, *pairs, "MODEL.PRETRAIN_PATH", str(other), options=[*FUSED])
    assert status == 0
    (line,) = (line for line in out.splitlines() if "another text tower" in line)
    assert "WARNING" in line and weight in line


def test_results_of_the_other_kind_are_not_replaced(start, clip, weight, tmp_path):
    tests = (("test_clipreid.py", (), "without"), (PROGRAM, FUSED, "with"))
    pairs = (*clip, "TEST.WEIGHT", weight)
    for program, options, kind in tests:
        folder = ("OUTPUT_DIR", str(tmp_path / kind))
        assert start(program, *pairs, *folder, options=options)[0] == 0
        assert start(program, *pairs, *folder, options=options)[0] == 0  # its own kind
    for program, options, kind in tests:
        folder = tmp_path / ("with" if kind == "without" else "without")
        before = [(folder / name).read_bytes() for name in ("features.npz", "metrics.json")]
        status, _, err = start(program, *pairs, "OUTPUT_DIR", str(folder), options=options)
        assert status == 2 and err.count("\n") == 1
        assert f"OUTPUT_DIR {folder} has the results of a test {folder.name} --mm" in err
        assert before == [(folder / name).read_bytes() for name in ("features.npz", "metrics.json")]


def test_a_text_search_model_is_both_sides(start, toy_towers, tmp_path):
    config = load_config(cfg_tbps, "", words(TEXT_SETTINGS))
    model = make_text_search_model(config).eval()
    torch.save(model.state_dict(), tmp_path / "best.pth")
    make_text_search_card(config, model, "tbps", data="", versions={}).write(tmp_path / "best.pth")
    pairs = ("MODEL.PRETRAIN_CHOICE", "clip", "MODEL.PRETRAIN_PATH", str(tmp_path / "best.pth"))
    status, out, err = start(PROGRAM, *pairs, "TEST.AUGMENT", "none", options=[*FUSED])
    assert (status, err) == (0, "") and "starts from the text search model" in out
    images = outputs(tmp_path / "logs")[0].images
    assert images.features.shape[1] == 64 + 40
    plain = ("OUTPUT_DIR", str(tmp_path / "plain"), "TEST.AUGMENT", "none")
    assert start(PROGRAM, *pairs, *plain)[0] == 0
    images = outputs(tmp_path / "plain")[0].images
    pixels = [plain_transform((32, 16), [0.5] * 3, [0.5] * 3)(read_image(path)) for path in images.paths]
    with torch.no_grad():
        want = model.encode_image(torch.stack(pixels))
    torch.testing.assert_close(images.features[:, 64:], want, rtol=1e-3, atol=1e-4)


def test_attributes_alone_change_nothing(start, clip, weight, tmp_path):
    pairs = (*clip, "TEST.WEIGHT", weight, "TEST.AUGMENT", "flip")
    assert start("test_clipreid.py", *pairs)[0] == 0
    plain, metrics = outputs(tmp_path / "logs")
    status, out, err = start(PROGRAM, *pairs, options=["--attributes", MARKET])
    assert (status, err) == (0, "")
    (line,) = (line for line in out.splitlines() if "nothing is fused" in line)
    assert "40 people" in line and out.count("Validation Results") == 1
    task, again = outputs(tmp_path / "logs")
    assert torch.equal(task.images.features, plain.images.features) and again == metrics


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("nowhere.mat", None, ["no such file"]),
        ("nowhere.csv", None, ["no such file"]),
        ("people.txt", "identity,hat", ["allowed: files that end in .mat or .csv"]),
        ("text.mat", "identity,hat", ["no MATLAB file"]),
        ("other.mat", {"gallery": np.ones(3)}, ["holds gallery", "market_attribute or duke_attribute"]),
        ("split.mat", {"market_attribute": {"train": 1.0}}, ["has no field test"]),
        ("people.csv", "person,hat\n1,yes\n", ["identity"]),
        ("people.csv", "identity,hat\n1,maybe\n", ["people.csv:2", "hat is 'maybe'", "no, yes"]),
    ],
)
def test_wrong_files_of_attributes(refused, tmp_path, name, content, told):
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        savemat(path, content)
    refused(PROGRAM, options=["--attributes", str(path), "--mm"], told=[path, *told])


def test_a_folder_as_file_of_attributes(refused, tmp_path):
    (tmp_path / "a.mat").mkdir()
    refused(PROGRAM, options=["--attributes", str(tmp_path / "a.mat")], told=["a.mat is a folder"])


@pytest.mark.parametrize("weight", ["-1", "-0.5", "nan", "inf"])
@pytest.mark.parametrize("form", ["--mm {}", "--mm={}"])
def test_weights_that_are_none(start, weight, form):
    options = ["--attributes", MARKET, *form.format(weight).split()]
    status, out, err = start(PROGRAM, options=options)
    assert status == 2 and not out
    assert err.splitlines()[-1].endswith(f"argument --mm: '{weight}'; allowed: 0 or more")


@pytest.mark.parametrize(
    ("options", "pairs", "told"),
    [
        (["--mm"], [], ["--mm without --attributes"]),
        (["--mm", "0"], [], ["--mm without --attributes"]),
        (["--augmented_template"], [], ["--augmented_template without --attributes"]),
        ([*FUSED], ["TEST.NECK_FEAT", "after"], ["TEST.NECK_FEAT is 'after'", "'before'"]),
        ([*FUSED], [], ["MODEL.PRETRAIN_CHOICE is 'none'", "--mm"]),
        ([], [], ["MODEL.PRETRAIN_CHOICE is 'none'", "TEST.WEIGHT"]),
        ([], ["MODEL.PRETRAIN_CHOICE", "clip", "MODEL.PRETRAIN_PATH", "/no.pt"], ["/no.pt"]),
        ([*FUSED], ["TEST.WEIGHT", "/nowhere/a.pth", "MODEL.PRETRAIN_CHOICE", "none"], ["PRETRAIN_CHOICE"]),
    ],
)
def test_options_that_need_something_else(refused, options, pairs, told):
    refused(PROGRAM, *pairs, options=options, told=told)


def test_a_stride_that_clip_does_not_have(refused, clip):
    refused(PROGRAM, *clip, "MODEL.STRIDE_SIZE", "[9, 9]", told=["MODEL.STRIDE_SIZE is [9, 9]"])


def test_own_sentences_are_not_augmented(refused, tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("identity,sentence\nanna,a woman\n")
    options = ["--attributes", str(path), "--mm", "--augmented_template"]
    refused(PROGRAM, options=options, told=["'anna'", "sentence of its own"])
