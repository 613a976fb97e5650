"""tools/extract.py: how images are resized."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cosine_similarity

from config import cfg_pcl
from config.load import load_config
from datasets.pixels.resize import from_pil
from model import make_card, make_model
from retrieval import RetrievalTask
from tests.toys import MODEL, words
from tools import extract

SIZE = (64, 32)
KEYS = MODEL | {"INPUT.SIZE_TRAIN": list(SIZE), "TEST.NECK_FEAT": "after"}


@pytest.fixture
def paths(tmp_path):
    """A smaller, a larger, and a picture of the very size, of noise: resizing matters."""
    (tmp_path / "crops").mkdir()
    paths = [tmp_path / "crops" / f"{number}.png" for number in range(3)]
    for path, size in zip(paths, [(40, 21), (150, 70), SIZE], strict=True):
        pixels = np.random.default_rng(size[0]).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def model(toy_towers, tmp_path):
    """A toy model of PCL-CLIP in the file toy-vit_3.pth."""
    torch.manual_seed(0)
    model = make_model(load_config(cfg_pcl, "", words(KEYS)), 5, 6, 1)
    torch.save(model.state_dict(), tmp_path / "toy-vit_3.pth")
    return model.eval()


@pytest.fixture
def run(tmp_path, paths, model):
    """run('--resize', 'bicubic') -> the feature file."""

    def run_tool(*options):
        named = {"--weight": "toy-vit_3.pth", "--images": "crops", "--out": "features.npz"}
        files = [word for option, name in named.items() for word in (option, str(tmp_path / name))]
        fixed = ["--neck", "after", "--workers", "0", "--device", "cpu", "--amp", "off", "--size", "64", "32"]
        assert extract.main([*files, *fixed, *options]) == 0
        return RetrievalTask.load(tmp_path / "features.npz")

    return run_tool


@torch.no_grad()
def by_pil(model, paths, method):
    pictures = [Image.open(path).resize(SIZE[::-1], method) for path in paths]
    return model((torch.stack([from_pil(picture) for picture in pictures]) / 255 - 0.5) / 0.5)


@pytest.mark.parametrize(
    ("options", "name", "method"),
    [
        ([], "bilinear", Image.Resampling.BILINEAR),
        (["--resize", "bilinear"], "bilinear", Image.Resampling.BILINEAR),
        (["--resize", "bicubic"], "bicubic", Image.Resampling.BICUBIC),
    ],
)
def test_as_pil_resizes(run, model, paths, capsys, options, name, method):
    task = run(*options)
    torch.testing.assert_close(task.images.features, by_pil(model, paths, method))
    assert task.info["resize"] == name
    assert f"toy-vit, 64 x 32 pixels, {name}, normalised with mean " in capsys.readouterr().out


def test_a_model_card_says_how(run, model, paths, tmp_path, capsys):
    half = {"INPUT.PIXEL_MEAN": [0.5] * 3, "INPUT.PIXEL_STD": [0.5] * 3}
    config = load_config(cfg_pcl, "", [word for pair in (KEYS | half).items() for word in pair])
    make_card(config, model, "pcl", data="", versions={}).write(tmp_path / "toy-vit_3.pth")
    for options, method in (
        ((), Image.Resampling.BICUBIC),
        (("--resize", "bilinear"), Image.Resampling.BILINEAR),
    ):
        torch.testing.assert_close(run(*options).images.features, by_pil(model, paths, method))
    first, second = (line for line in capsys.readouterr().out.splitlines() if "normalised with" in line)
    assert first.endswith("--size, --neck given, all else by the model card") and "bicubic" in first
    assert second.endswith("--size, --resize, --neck given, all else by the model card")


def test_the_choice_matters_where_sizes_differ(run):
    alike = cosine_similarity(run().images.features, run("--resize", "bicubic").images.features)
    assert alike[:2].max() < 0.9999 < alike[2]


def test_no_other_resizing(run, capsys):
    with pytest.raises(SystemExit) as end:
        run("--resize", "nearest")
    assert end.value.code == 2 and "--resize: invalid choice: 'nearest'" in capsys.readouterr().err
