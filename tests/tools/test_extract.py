"""tools/extract.py: which images, with which statistics, what is left out, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import clipreid
from config import cfg_base
from config.load import load_config
from datasets import read_image
from datasets import test_transform as plain_transform
from model import make_model
from retrieval import FeatureSet, RetrievalTask
from tests.toys import MODEL, words
from tools import extract

TOOL = Path(__file__).parents[2] / "tools" / "extract.py"
SIZE = (128, 64)
HALF = ([0.5] * 3, [0.5] * 3)
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def make_toy(toy_towers):
    """make_toy('toy-vit', 'MODEL.SIE_CAMERA', True) -> a model in evaluation mode whose necks matter."""

    def make(name, *pairs, size=SIZE):
        torch.manual_seed(0)
        settings = MODEL | {"MODEL.NAME": name, "INPUT.SIZE_TRAIN": list(size), "TEST.NECK_FEAT": "before"}
        config = load_config(cfg_base, "", [*words(settings), *pairs])
        model = make_model(config, 5, 6, 1)
        for neck in (model.bottleneck, model.bottleneck_proj):
            neck.running_mean.normal_()
        return model.eval()

    return make


@pytest.fixture
def toy(make_toy, tmp_path):
    """A toy ViT in the file weights/toy-vit_3.pth."""
    return save(make_toy("toy-vit"), tmp_path / "weights" / "toy-vit_3.pth")


def save(model, path):
    path.parent.mkdir(exist_ok=True)
    torch.save(model.state_dict(), path)
    return model


def draw(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (90 + 5 * seed, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def crops(tmp_path):
    """Five pictures in three folders, in sorted order, and files that are none."""
    names = ["a/2.png", "a/deep/1.JPG", "b.webp", "c.bmp", "z.jpeg"]
    paths = [draw(tmp_path / "crops" / name, seed) for seed, name in enumerate(names)]
    (tmp_path / "crops" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "crops" / "a" / "list.txt").write_text("z.jpeg")
    return paths


@pytest.fixture
def command(tmp_path):
    """command('crops', …) -> arguments that search that part of tmp_path and write features.npz there."""

    def make(*images, weight="toy-vit_3.pth", workers=0):
        sources = [str(tmp_path / image) for image in images]
        fixed = ["--weight", str(tmp_path / "weights" / weight), "--out", str(tmp_path / "features.npz")]
        return [*fixed, "--workers", str(workers), "--device", "cpu", "--images", *sources]

    return make


def expected(model, paths, statistics=HALF, size=SIZE, **labels):
    transform = plain_transform(size, *statistics)
    with torch.no_grad():
        return model(torch.stack([transform(read_image(str(path))) for path in paths]), **labels)


def assert_holds(tmp_path, paths, features):
    stored = FeatureSet.load(tmp_path / "features.npz")
    assert stored.paths == tuple(map(str, paths))
    torch.testing.assert_close(stored.features, features)
    assert stored.pids.tolist() == stored.camids.tolist() == [-1] * len(paths)


def fails(arguments, capsys):
    """The one line on stderr with which the tool ends at status 2."""
    with pytest.raises(SystemExit) as end:
        extract.main(arguments)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


# ---- features, and what the file says of them


@pytest.mark.parametrize("workers", [0, 2])
def test_features_of_a_folder(toy, crops, command, tmp_path, capsys, workers):
    assert extract.main([*command("crops", workers=workers), "--batch", "2", "--strict"]) == 0
    assert_holds(tmp_path, crops, expected(toy, crops))
    task = RetrievalTask.load(tmp_path / "features.npz")
    assert len(task) == 1 and len(task.images) == 5
    message = {"weight": str(tmp_path / "weights" / "toy-vit_3.pth"), "model": "toy-vit", "dataset": None}
    message |= {"size": [128, 64], "stride": [8, 8], "pixel_mean": [0.5] * 3, "pixel_std": [0.5] * 3}
    message |= {"neck_feature": "before", "resize": "bilinear", "normalize": True, "precision": "float32"}
    message["orientation"] = "exif"
    last = capsys.readouterr().out.splitlines()[-1]
    message["model_sha256"] = clipreid.load_model(tmp_path / "weights" / "toy-vit_3.pth").space_model.sha256
    assert task.info == message
    assert last.endswith(f"transreid INFO: 5 features of width 80 written to {tmp_path / 'features.npz'}")


def test_after_the_neck(toy, crops, command, tmp_path):
    toy.neck_feature = "after"
    assert extract.main([*command("crops"), "--neck", "after"]) == 0
    assert_holds(tmp_path, crops, expected(toy, crops))
    assert RetrievalTask.load(tmp_path / "features.npz").info["neck_feature"] == "after"


def test_a_resnet_sees_imagenet_statistics(make_toy, crops, command, tmp_path, capsys):
    model = save(make_toy("toy-resnet"), tmp_path / "weights" / "best.pth")
    assert extract.main(command("crops", weight="best.pth")) == 0
    assert_holds(tmp_path, crops, expected(model, crops, IMAGENET))
    info = RetrievalTask.load(tmp_path / "features.npz").info
    assert info["model"] == "ResNet" and [info["pixel_mean"], info["pixel_std"]] == list(IMAGENET)
    message = f"ResNet, 128 x 64 pixels, bilinear, normalised with mean {IMAGENET[0]} and std {IMAGENET[1]}"
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "statistics"),
    [
        (["--mean", "0.1", "0.2", "0.3"], ([0.1, 0.2, 0.3], HALF[1])),
        (["--std", "0.1", "0.2", "0.3"], (HALF[0], [0.1, 0.2, 0.3])),
    ],
)
def test_other_statistics(toy, crops, command, tmp_path, options, statistics):
    assert extract.main([*command("crops"), *options]) == 0
    assert_holds(tmp_path, crops, expected(toy, crops, statistics))


def test_half_precision(toy, crops, command, tmp_path):
    assert extract.main([*command("crops"), "--amp", "bf16"]) == 0
    stored, whole = FeatureSet.load(tmp_path / "features.npz").features, expected(toy, crops)
    assert 0 < (stored - whole).abs().max() < 0.03 * whole.abs().max()


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_side_information_is_the_mean_row(make_toy, crops, command, tmp_path, capsys, scale):
    model = make_toy("toy-vit", "MODEL.SIE_CAMERA", True, "MODEL.SIE_COE", scale)
    with torch.no_grad():
        model.cv_embed.normal_()
    save(model, tmp_path / "weights" / "toy-vit_3.pth")
    assert extract.main([*command("crops"), *([] if scale == 1 else ["--sie_coe", str(scale)])]) == 0
    assert_holds(tmp_path, crops, expected(model, crops, camids=torch.full((5,), -1)))
    assert f"SIE by the mean of the 6 rows, times {scale:g}" in capsys.readouterr().out


def test_a_size_that_the_file_alone_does_not_tell(make_toy, crops, command, tmp_path, capsys):
    size = (72, 40)
    model = save(make_toy("toy-vit", size=size), tmp_path / "weights" / "toy-vit_3.pth")
    assert "give the --size" in fails(command("crops"), capsys)
    assert extract.main([*command("crops"), "--size", "72", "40"]) == 0
    assert_holds(tmp_path, crops, expected(model, crops, size=size))


@pytest.mark.slow
def test_it_runs_as_a_program_from_another_folder(toy, crops, tmp_path):
    (tmp_path / "weights" / "toy-vit_3.pth").rename(tmp_path / "best.pth")
    (tmp_path / "tower.json").write_text(json.dumps(open_clip.get_model_config("toy-vit")))
    options = ["--weight", "best.pth", "--model", "tower.json", "--images", "crops", "--out", "features.npz"]
    command = [sys.executable, TOOL, *options, "--workers", "0", "--device", "cpu"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.endswith("5 features of width 80 written to features.npz\n") and not result.stderr
    relative = [path.relative_to(tmp_path) for path in crops]
    assert_holds(tmp_path, relative, expected(toy, crops))


# ---- images that cannot be read


@pytest.fixture
def mixed(tmp_path, crops, unreadable):
    """A list of two images, five files that cannot be read, and three images, not sorted."""
    crops.reverse()
    (tmp_path / "mixed.txt").write_text("\n".join(map(str, [*crops[:2], *unreadable, *crops[2:]])))
    return "mixed.txt"


@pytest.fixture
def unreadable(tmp_path):
    """A missing, a cut off, an empty and a text file, and a folder, all named as images."""
    folder = tmp_path / "bad"
    cut = draw(folder / "cut.jpg")
    cut.write_bytes(cut.read_bytes()[:400])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("not an image")
    (folder / "folder.jpg").mkdir()
    return [folder / name for name in ("missing.jpg", "cut.jpg", "empty.png", "text.jpg", "folder.jpg")]


@pytest.mark.parametrize("workers", [0, 2])
def test_they_are_named_counted_and_left_out(
    toy, crops, unreadable, mixed, command, tmp_path, capsys, workers
):
    assert extract.main([*command(mixed, workers=workers), "--batch", "2"]) == 0
    assert_holds(tmp_path, crops, expected(toy, crops))
    warnings = [line for line in capsys.readouterr().out.splitlines() if "WARNING" in line]
    assert "has no model card: assumed are " in warnings.pop(0) and len(warnings) == 6
    for line, path in zip(warnings, unreadable, strict=False):
        reason = "no such image file" if path.name == "missing.jpg" else "cannot be read as an image: "
        assert f"transreid WARNING: {path}: {reason}" in line
    assert warnings[-1].endswith(
        f"5 of 10 images could not be read and are not in {tmp_path / 'features.npz'}"
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_strict_ends_at_the_first(toy, unreadable, mixed, command, tmp_path, capsys, workers):
    error = fails([*command(mixed, workers=workers), "--strict"], capsys)
    assert error == f"error: {unreadable[0]}: no such image file\n"
    assert not (tmp_path / "features.npz").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "none of the 3 images could be read\n"), (["--strict"], "cut.jpg: cannot be read as an image: ")],
)
def test_a_former_file_outlives_a_failure(toy, unreadable, command, tmp_path, capsys, options, message):
    (tmp_path / "features.npz").write_bytes(b"former")
    assert message in fails([*command("bad"), *options], capsys)
    assert (tmp_path / "features.npz").read_bytes() == b"former"
    assert {path.name for path in tmp_path.iterdir()} == {"bad", "features.npz", "weights"}


# ---- what is refused before the work


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "0"], "--batch is 0; allowed: 1 or more"),
        (["--workers", "-1"], "--workers is -1; allowed: 0 or more"),
        (["--size", "0", "64"], "--size is (0, 64); allowed: two whole numbers above 0"),
        (["--stride", "8", "0"], "--stride is (8, 0); allowed: two whole numbers above 0"),
        (["--std", "0.5", "0", "0.5"], "--std is [0.5, 0.0, 0.5]; allowed: numbers above 0"),
        (["--model", "toy-resnet"], "does not fit this architecture"),
        (["--model", "toy-boat"], "--model is 'toy-boat'; allowed: "),
    ],
)
def test_wrong_options(toy, crops, command, capsys, options, message):
    assert message in fails([*command("crops"), *options], capsys)


def test_sources_without_images(toy, crops, command, tmp_path, capsys):
    error = fails(command("crops", "gone"), capsys)
    assert error.startswith(
        f"error: --images {tmp_path / 'gone'}: no image there; allowed: a folder of .jpg "
    )


def test_wrong_weights(toy, crops, command, tmp_path, capsys):
    (tmp_path / "weights" / "text.pth").write_text("x")
    for weight, message in (("gone.pth", "no weights file at "), ("text.pth", "text.pth is no checkpoint")):
        assert message in fails(command("crops", weight=weight), capsys)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("gone/features.npz", "gone: No such file or directory"),
        ("crops/c.bmp/features.npz", "c.bmp: Not a directory"),
        ("crops", "crops is a folder; allowed: a plain file"),
    ],
)
def test_wrong_output(toy, crops, command, tmp_path, capsys, out, message):
    error = fails([*command("crops"), "--out", str(tmp_path / out)], capsys)
    assert error.startswith(f"error: --out {tmp_path / out}") and error.endswith(message + "\n")


def test_an_output_folder_that_cannot_be_written_to(toy, crops, command, tmp_path, monkeypatch, capsys):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", f"{dir}/tmp1")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write everywhere
    out = tmp_path / "features.npz"
    assert fails(command("crops"), capsys) == (
        f"error: --out {out}: no file can be written in {tmp_path}: Permission denied\n"
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_what_reading_changes_is_counted_with_an_example(toy, crops, command, tmp_path, capsys, workers):
    Image.new("RGBA", (9, 9)).save(tmp_path / "crops" / "y.png")
    exif = Image.Exif()
    exif[274] = 6
    for name in ("x.jpg", "w.jpg"):
        Image.new("CMYK", (9, 9)).save(tmp_path / "crops" / name, exif=exif)
    extract.main(command("crops", workers=workers))
    log = capsys.readouterr().out
    for told in (
        "1 of 8 images have transparency, which is left out, such as {}/y.png",
        "2 of 8 images have colours in CMYK, read as RGB, such as {}/w.jpg",
        "2 of 8 images have an EXIF orientation, such as {}/w.jpg",
    ):
        assert told.format(tmp_path / "crops") in log


@pytest.mark.parametrize("orientation", ["exif", "stored"])
def test_photographs_are_turned_upright(toy, command, tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    (tmp_path / "crops").mkdir()
    Image.fromarray(pixels).save(tmp_path / "crops" / "a.png", exif=exif)
    upright = np.rot90(pixels, -1) if orientation == "exif" else pixels
    Image.fromarray(np.ascontiguousarray(upright)).save(tmp_path / "crops" / "b.png")
    assert extract.main([*command("crops"), "--orientation", orientation]) == 0
    task = RetrievalTask.load(tmp_path / "features.npz")
    assert torch.equal(*task.images.features) and task.info["orientation"] == orientation
