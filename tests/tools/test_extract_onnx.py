"""tools/extract.py with an exported model: the features of torch, on a machine that has no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from config import cfg_base
from config.load import load_config
from model import export_onnx, image_graph, load_reid_model, make_model, write_graph
from retrieval import FeatureSet, RetrievalTask
from tests.toys import MODEL, words
from tools import evaluate, extract
from tools.features import graph_files

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch is too old for an export")

ROOT = Path(__file__).parents[2]
SIZE = (64, 32)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
FACTS = {"name": "toy-vit", "mean": MEAN, "std": STD, "resize": "bicubic", "neck_feature": "after"}
OPTIONS = [*("--model", "toy-vit", "--size", "64", "32", "--neck", "after", "--resize", "bicubic")]
OPTIONS += ["--mean", *map(str, MEAN), "--std", *map(str, STD)]
# Modules that programs without torch do without; None in sys.modules is an ImportError at every import.
HIDDEN = ("torch", "torchvision", "timm", "open_clip", "safetensors", "onnx", "onnxscript")
WITHOUT = f"""
import sys
for name in {HIDDEN}:
    sys.modules[name] = None
sys.argv[0] = "extract"
from tools.extract import main
main()
assert not [name for name in sys.modules if name.partition(".")[0] in {HIDDEN} and sys.modules[name]]
"""


@pytest.fixture(scope="module")
def weights(toy_towers, tmp_path_factory):
    """A folder with a toy with side information, toy-vit_3.pth, and a function that exports it there."""
    folder = tmp_path_factory.mktemp("weights")
    settings = MODEL | {"MODEL.NAME": "toy-vit", "INPUT.SIZE_TRAIN": list(SIZE)}
    settings |= {"MODEL.SIE_CAMERA": True, "MODEL.SIE_VIEW": True}
    torch.manual_seed(0)
    model = make_model(load_config(cfg_base, "", words(settings)), 5, 3, 2)
    for neck in (model.bottleneck, model.bottleneck_proj):
        neck.running_mean.normal_()
    with torch.no_grad():
        model.cv_embed.normal_()
    torch.save(model.state_dict(), folder / "toy-vit_3.pth")

    def export(name, form="fp32", **options):
        path = folder / f"{name}.onnx"
        if not path.exists():
            sie = (3, 2) if options.get("sides") else (1, 0)
            model, info = load_reid_model(folder / "toy-vit_3.pth", SIZE, sie=sie, **FACTS)
            write_graph(image_graph(model, info, **options), path, form)
        return path

    export.weight = folder / "toy-vit_3.pth"
    return export


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of several kinds, of sizes that grow and shrink, one turned, one as large as the model wants."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0).integers
    colours = [Image.fromarray(draw(0, 256, (90 - 20 * n, 40, 3), dtype=np.uint8)) for n in range(4)]
    exif = Image.Exif()
    exif[0x0112] = 6
    colours[0].save(folder / "a.jpg", quality=90)
    colours[1].save(folder / "b.png")
    colours[2].save(folder / "turned.jpg", exif=exif)
    colours[3].convert("L").save(folder / "grey.jpg")
    colours[0].convert("P").save(folder / "palette.png")
    colours[1].convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(draw(0, 256, (*SIZE, 4), dtype=np.uint8)).save(folder / "same_size.png")
    Image.fromarray(draw(0, 65536, (70, 30), dtype=np.uint16)).save(folder / "deep.png")
    return folder


@pytest.fixture
def run(tmp_path):
    """run(weight, images, …) -> the features that the tool writes; in a process without torch by default."""

    def call(weight, images, *options, without_torch=True, workers="2"):
        words = [
            "--weight",
            weight,
            "--images",
            images,
            "--out",
            tmp_path / "features.npz",
            "--device",
            "cpu",
        ]
        words = [str(word) for word in (*words, "--workers", workers, *options)]
        if without_torch:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-c", WITHOUT, *words]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            call.log = done.stdout
        else:
            assert extract.main(words) == 0
        return FeatureSet.load(tmp_path / "features.npz")

    return call


@pytest.fixture(scope="module")
def by_torch(weights, pictures, tmp_path_factory):
    """What the tool writes with the checkpoint."""
    out = tmp_path_factory.mktemp("torch") / "features.npz"
    words = ["--weight", weights.weight, "--images", pictures, "--out", out, "--workers", "0", *OPTIONS]
    assert extract.main([str(word) for word in (*words, "--device", "cpu")]) == 0
    return RetrievalTask.load(out)


def unit(features):
    return torch.nn.functional.normalize(features, dim=1)


def assert_equal(found, wanted, **tolerance):
    assert len(wanted) == 8 and not torch.allclose(wanted.features[0], wanted.features[1], rtol=0.05)
    assert found.paths == wanted.paths and found.keys == wanted.keys
    assert found.pictures == wanted.pictures and all(found.pictures)
    assert torch.equal(found.pids, wanted.pids) and torch.equal(found.camids, wanted.camids)
    tolerance = tolerance or {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(unit(found.features), unit(wanted.features), **tolerance)


# ---- features, and what the file says of them


@pytest.mark.parametrize("pixels", ["unit", "normalised", "imagenet"])
def test_features_are_those_of_torch(weights, pictures, by_torch, run, pixels):
    path = weights(pixels, pixels=pixels, raw=True)
    found = run(path, pictures, "--batch", "3", without_torch=pixels == "unit")
    assert_equal(found, by_torch.images)
    torch.testing.assert_close(found.features, by_torch.images.features, rtol=1e-4, atol=1e-5)


def test_info_of_the_file(weights, pictures, by_torch, run, tmp_path):
    path = weights("unit", pixels="unit", raw=True)
    run(path, pictures, without_torch=False)
    found = RetrievalTask.load(tmp_path / "features.npz").info
    others = {"weight": str(path), "precision": "onnx"}
    expected = dict(by_torch.info) | others
    del expected["model_sha256"]  # an exported file is another one
    assert found == expected


def test_cameras_as_inputs_are_unknown(weights, pictures, by_torch, run):
    path = weights("sides", sides=True)
    assert_equal(run(path, pictures, without_torch=False), by_torch.images)


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_smaller_files(weights, pictures, by_torch, run, form):
    found = run(weights(form, form), pictures)
    cosines = (unit(found.features) * unit(by_torch.images.features)).sum(dim=1)
    assert cosines.min() > (0.999 if form == "fp16" else 0.97)
    assert not torch.equal(found.features, unit(by_torch.images.features))


def test_the_published_form_needs_the_preparation(weights, pictures, by_torch, run, tmp_path, capsys):
    path = tmp_path / "published.onnx"
    model, _ = load_reid_model(weights.weight, SIZE, sie=(1, 0), **FACTS)
    export_onnx(model, path, SIZE)
    given = ["--mean", *map(str, MEAN), "--std", *map(str, STD), "--resize", "bicubic"]
    assert_equal(run(path, pictures, *given, without_torch=False), by_torch.images)
    error = fails(path, pictures, tmp_path, capsys, *given[:4])
    assert "--std" in error and "--resize" in error and "--mean" not in error


def test_resize_and_orientation_are_options(weights, pictures, run, tmp_path):
    path = weights("unit", pixels="unit", raw=True)
    wanted = extract_with_torch(
        weights, pictures, tmp_path, "--resize", "bilinear", "--orientation", "stored"
    )
    found = run(
        path, pictures, "--resize", "bilinear", "--orientation", "stored", without_torch=False, workers="0"
    )
    assert_equal(found, wanted)
    other = run(path, pictures, without_torch=False)
    assert not torch.allclose(other.features, found.features, rtol=1e-3)


def extract_with_torch(weights, pictures, tmp_path, *options):
    words = ["--weight", weights.weight, "--images", pictures, "--out", tmp_path / "torch.npz", *OPTIONS]
    words = [str(word) for word in (*words, "--workers", "0", "--device", "cpu", *options)]
    assert extract.main(words) == 0
    return FeatureSet.load(tmp_path / "torch.npz")


def test_the_file_is_one_for_the_other_tools(weights, pictures, run, tmp_path, capsys):
    names = [f"{name}.png" for name in ("0001_c1", "0001_c2", "0002_c1", "0002_c2")]
    run(weights("unit", pixels="unit", raw=True), pictures, without_torch=False)
    found = FeatureSet.load(tmp_path / "features.npz").select(range(4))
    labelled = FeatureSet(found.features, [1, 1, 2, 2], [0, 1, 0, 1], names)
    labelled.save(tmp_path / "labelled.npz", RetrievalTask.load(tmp_path / "features.npz").info)
    assert evaluate.main(["--features", str(tmp_path / "labelled.npz")]) == 0
    assert "mAP" in capsys.readouterr().out


# ---- what is left out, and how it ends


def fails(weight, images, tmp_path, capsys, *options):
    """The one line on stderr with which the tool ends at status 2, without a file."""
    words = ["--weight", weight, "--images", images, "--out", tmp_path / "none.npz", *options]
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        extract.main([str(word) for word in (*words, "--workers", "1")])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    assert not (tmp_path / "none.npz").exists()
    return error


def test_broken_images_are_left_out_and_named(weights, pictures, run, tmp_path, capsys):
    folder = tmp_path / "some"
    folder.mkdir()
    for name in ("a.jpg", "b.png"):
        (folder / name).write_bytes((pictures / name).read_bytes())
    (folder / "broken.png").write_bytes((pictures / "b.png").read_bytes()[:200])
    path = weights("unit", pixels="unit", raw=True)
    assert [Path(each).name for each in run(path, folder).paths] == ["a.jpg", "b.png"]
    assert "broken.png" in run.log and "1 of 3" in run.log
    assert "broken.png" in fails(path, folder, tmp_path, capsys, "--strict")
    assert "none of the 1" in fails(path, folder / "broken.png", tmp_path, capsys)


@pytest.mark.parametrize(
    "words",
    [
        *(("--model", "ViT-B-16"), ("--size", "128", "64"), ("--stride", "8", "8"), ("--neck", "before")),
        *(("--sie_coe", "1"), ("--mean", "0", "0", "0"), ("--std", "1", "1", "1"), ("--amp", "auto")),
        ("--batch", "0"),
    ],
)
def test_options_that_cannot_apply_are_refused(weights, pictures, tmp_path, capsys, words):
    path = weights("unit", pixels="unit", raw=True)
    assert words[0] in fails(path, pictures, tmp_path, capsys, *words)


def test_several_processes_are_refused(weights, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "2 processes" in fails(weights("unit", pixels="unit", raw=True), pictures, tmp_path, capsys)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"PK\x03\x04 not a graph", b"half"], ids=range(4))
def test_a_broken_file(weights, pictures, tmp_path, capsys, content):
    if content == b"half":
        whole = weights("unit", pixels="unit", raw=True).read_bytes()
        content = whole[: len(whole) // 2]
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    assert "broken.onnx" in fails(path, pictures, tmp_path, capsys)


def test_a_missing_file_and_a_folder(pictures, tmp_path, capsys):
    assert "gone.onnx" in fails(tmp_path / "gone.onnx", pictures, tmp_path, capsys)
    (tmp_path / "folder.onnx").mkdir()
    assert "folder.onnx" in fails(tmp_path / "folder.onnx", pictures, tmp_path, capsys)


@pytest.fixture
def changed(weights, tmp_path):
    """changed(function) -> the path of a copy of a file on which the function has worked."""

    def change(function):
        content = onnx.load(str(weights("unit", pixels="unit", raw=True)))
        function(content)
        onnx.save(content, str(tmp_path / "changed.onnx"))
        return tmp_path / "changed.onnx"

    return change


def set_fact(name, value):
    def function(content):
        for each in content.metadata_props:
            if each.key == f"clipreid.{name}":
                each.value = value(each.value)

    return function


def card(**facts):
    return set_fact("card", lambda text: json.dumps(json.loads(text) | facts))


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (set_fact("kind", lambda _: "text"), "text"),
        (set_fact("input", lambda _: "bytes"), "bytes"),
        (set_fact("card", lambda _: "{"), "model card"),
        (card(size=[128, 64]), "128 x 64"),
        (card(std=[0.1, 0, 0.1]), "std"),
        (card(resize="nearest"), "resize"),
        (lambda content: content.ClearField("metadata_props"), "--mean, --std, --resize"),
    ],
)
def test_other_metadata(changed, pictures, tmp_path, capsys, function, named):
    assert named in fails(changed(function), pictures, tmp_path, capsys)


def fix_batch(content):
    content.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def rename_input(content):
    content.graph.input.append(onnx.helper.make_tensor_value_info("speed", onnx.TensorProto.FLOAT, [1]))


def look_outside(content):
    """The first weight lies in another folder."""
    tensor = max(content.graph.initializer, key=lambda each: len(each.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../../../../../../etc/hostname"), ("offset", "0")):
        tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize(
    ("function", "named"),
    [(fix_batch, "batch"), (rename_input, "speed"), (look_outside, "changed.onnx")],
)
def test_other_graphs(weights, pictures, tmp_path, capsys, function, named):
    content = onnx.load(str(weights("unit", pixels="unit", raw=True)))
    function(content)
    (tmp_path / "changed.onnx").write_bytes(content.SerializeToString())
    assert named in fails(tmp_path / "changed.onnx", pictures, tmp_path, capsys)


def test_the_package_is_named_where_it_is_missing(weights, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("utils.package.importlib.util.find_spec", lambda name: None)
    error = fails(weights("unit", pixels="unit", raw=True), pictures, tmp_path, capsys)
    assert "onnxruntime" in error and "clipreid[onnx]" in error and "onnxscript" not in error


def test_a_checkpoint_without_torch(weights, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tools.extract.importlib.util.find_spec", lambda name: None)
    error = fails(weights.weight, pictures, tmp_path, capsys)
    assert "toy-vit_3.pth" in error and "torch" in error and ".onnx" in error


def test_statistics_of_imagenet():
    assert graph_files._CLIENT["imagenet"] == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
