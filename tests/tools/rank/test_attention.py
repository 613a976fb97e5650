"""The attention of a model, laid over its queries."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from config import cfg
from config.load import load_config
from datasets import test_transform as plain_transform
from model import attention_map, load_reid_model, make_model
from tests.toys import MODEL, words
from tools.ranking.attention import attention_painter, overlay


@pytest.fixture
def checkpoint(toy_towers, small):
    """checkpoint('toy-vit', 'MODEL.SIE_CAMERA', 'True') -> the file of a model."""

    def make(name, *pairs, size=small.size):
        torch.manual_seed(0)
        settings = [*words(MODEL | {"MODEL.NAME": name}), "INPUT.SIZE_TRAIN", str(list(size))]
        settings += ["INPUT.SIZE_TEST", str(list(size)), *pairs]
        path = small.folder / f"{name}_3.pth"
        torch.save(make_model(load_config(cfg, "", settings), 5, 3, 1).state_dict(), path)
        return str(path)

    return make


@pytest.mark.parametrize("method", ["rollout", "last"])
@pytest.mark.parametrize("sie", ["False", "True"])
def test_attention_is_laid_over_the_query(small, run, checkpoint, method, sie):
    weight = checkpoint("toy-vit", "MODEL.SIE_CAMERA", sie)
    page = run("--queries", "0", "--weight", weight, "--attention", method)
    assert page.labels() == ["query", "attention", "1 ✗", "2 ?", "3 ✓"]
    assert page.alts()[1].startswith(f"Attention of the model ({method}) on the query")
    plain, painted = (np.asarray(picture) for picture in page.pictures()[:2])
    assert plain.shape == painted.shape == (*small.size, 3)
    assert plain.std(axis=(0, 1)).max() < 2 < painted.std(axis=(0, 1)).min()


def test_weight_alone_shows_rollout(run, checkpoint):
    assert "(rollout)" in run("--queries", "0", "--weight", checkpoint("toy-vit")).source


@pytest.mark.parametrize("resize", ["bilinear", "bicubic"])
def test_the_model_sees_the_query_as_the_test_resized_it(small, checkpoint, resize):
    weight = checkpoint("toy-vit")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    pixels = plain_transform(small.size, [0.5] * 3, [0.5] * 3, interpolation=resize)(image)[None]
    tower = load_reid_model(weight, small.size)[0].image_encoder
    expected = overlay(image, attention_map(tower, pixels, None, method="last")[0])
    made_with = {"size": small.size} | ({} if resize == "bilinear" else {"resize": resize})
    painted = attention_painter(weight, "last", made_with)(image)
    assert np.array_equal(np.asarray(painted), np.asarray(expected))


def test_the_feature_file_says_how(small, run, checkpoint, monkeypatch, capsys):
    seen = []

    def transform(*args, interpolation):
        seen.append(interpolation)
        return plain_transform(*args, interpolation=interpolation)

    monkeypatch.setattr("tools.ranking.attention.test_transform", transform)
    run("--queries", "0", "--weight", checkpoint("toy-vit"))
    small.task(size=small.size, resize="bicubic").save("features.npz")
    capsys.readouterr()
    run("--queries", "0", "--weight", checkpoint("toy-vit"))
    assert seen == ["bilinear", "bicubic"]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if " sees images of " in line)
    assert "bicubic, mean (0.5, 0.5, 0.5)" in line and line.endswith("do not say is as published")


def test_attention_has_a_cell_of_its_own_in_the_png(run, checkpoint):
    blue = []  # pixels of the frames around query and attention
    for options in ([], ["--weight", checkpoint("toy-vit")]):
        run("--queries", "1", *options)
        with Image.open("out/ranking.png") as image:
            blue.append(np.all(np.asarray(image.convert("RGB")) == (26, 86, 219), axis=2).sum())
    assert blue[1] > 1.8 * blue[0]


def test_attention_of_an_unreadable_query_is_a_grey_place(small, run, checkpoint):
    Path(small.queries[0]).unlink()
    page = run("--queries", "0", "--weight", checkpoint("toy-vit"))
    assert [reason for _, reason in page.all("span", "missing")] == ["no such image file"] * 2


def test_a_resnet_has_no_attention_to_show(small, refused, checkpoint):
    small.task(size=(64, 64)).save("features.npz")
    error = refused("--weight", checkpoint("toy-resnet", size=(64, 64)))
    assert re.fullmatch(r"error: .*toy-resnet_3\.pth holds a ResNet, which has no class token; .*\n", error)


def test_overlay_is_bright_where_the_map_is_high():
    attention = torch.zeros(4, 2)
    attention[0, 0] = 0.5
    image = np.asarray(overlay(Image.new("RGB", (20, 40), (100, 100, 100)), attention)).astype(int)
    assert image.shape == (40, 20, 3)
    assert image[2, 2].sum() > 400 > 300 > image[30, 10].sum()


def test_overlay_of_equal_attention_is_even():
    image = overlay(Image.new("RGB", (20, 40), (100, 100, 100)), torch.full((4, 2), 0.125))
    assert len(image.getcolors()) == 1


@pytest.mark.parametrize(
    "info",
    [
        {"size": [1, 1]},
        {"size": [10_000, 10_000]},
        {"size": [512, 512], "stride": [1, 1]},
        {"stride": [10_000, 1]},
        {"pixel_mean": [1000.0] * 3, "pixel_std": [1e-6] * 3},
        {"size": None, "stride": None, "pixel_mean": None, "pixel_std": None, "resize": None},
        {"size": "x"},
        {"size": [48.0, 24]},
        {"size": [48]},
        {"size": {"a": 1}},
        {"stride": [0, 8]},
        {"stride": True},
        {"pixel_mean": [0.5]},
        {"pixel_mean": ["0.5"] * 3},
        {"pixel_std": [0, 1, 1]},
        {"pixel_std": [-1.0] * 3},
        {"resize": "nearest"},
        {"resize": 3},
        {"normalize": "no"},
        {"dataset": ["x"]},
        {"model": {}},
    ],
)
def test_odd_settings_are_a_page_or_one_line(small, run, checkpoint, capsys, info):
    weight = checkpoint("toy-vit")
    small.task(**info).save("features.npz")
    try:
        page = run("--queries", "0", "--weight", weight)
    except SystemExit as end:
        err = capsys.readouterr().err
        assert end.code == 2 and err.startswith("error: ") and err.count("\n") == 1
        assert any(key in err for key in info) or "size" in err or "stride" in err
    else:
        assert page.labels()[1] == "attention"
