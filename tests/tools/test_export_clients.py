"""tools/export.py --for: files that other programs take, by the keys and shapes that they document."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml

from config import cfg_base
from config.load import load_config
from model import Parity, load_reid_model, make_model, onnx_runner
from tests.toys import MODEL, save_text_model
from tools import export
from tools.exporting import clients

pytestmark = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch is too old")
SIZE = (32, 16)
# Of the section ReID of nvtracker, as NVIDIA lists them.
DEEPSTREAM = {
    "reidType",
    "batchSize",
    "workspaceSize",
    "reidFeatureSize",
    "reidHistorySize",
    "inferDims",
    "networkMode",
    "inputOrder",
    "colorFormat",
    "offsets",
    "netScaleFactor",
    "keepAspc",
    "useVPICropScaler",
    "addFeatureNormalization",
    "minVisibility4GalleryUpdate",
    "outputReidTensor",
    "tltEncodedModel",
    "tltModelKey",
    "onnxFile",
    "modelEngineFile",
    "calibrationTableFile",
}


@pytest.fixture(scope="module")
def weights(toy_towers, tmp_path_factory):
    """A re-id model with side information in toy-vit_6.pth, a text search model in toy-vit_3.pth."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    settings = MODEL | {"INPUT.SIZE_TRAIN": list(SIZE), "MODEL.SIE_CAMERA": True, "TEST.NECK_FEAT": "after"}
    model = make_model(load_config(cfg_base, "", [w for pair in settings.items() for w in pair]), 5, 3, 1)
    with torch.no_grad():
        model.cv_embed.normal_()
    torch.save(model.state_dict(), folder / "toy-vit_6.pth")
    save_text_model(folder / "toy-vit_3.pth")
    return folder


@pytest.fixture
def run(weights, tmp_path, monkeypatch, capsys):
    """run('boxmot', 'a.onnx') -> what was printed, with what the options need to be known."""
    monkeypatch.chdir(tmp_path)

    def run_tool(client, out, *options, weight="toy-vit_6.pth"):
        size = [] if weight == "toy-vit_3.pth" else ["--size", *map(str, SIZE)]
        words = ["--weight", str(weights / weight), *size, "--for", client, "--out", out, *options]
        assert export.main(words) == 0
        return capsys.readouterr().out

    return run_tool


@pytest.fixture
def refused(weights, tmp_path, monkeypatch, capsys):
    """refused('boxmot', 'a.onnx', '--raw') -> the one line on stderr; no file is left."""
    monkeypatch.chdir(tmp_path)

    def run_tool(client, out, *options, weight="toy-vit_6.pth"):
        size = [] if weight == "toy-vit_3.pth" else ["--size", *map(str, SIZE)]
        with pytest.raises(SystemExit) as end:
            export.main(["--weight", str(weights / weight), *size, "--for", client, "--out", out, *options])
        error = capsys.readouterr().err
        assert end.value.code == 2 and "Traceback" not in error
        assert list(tmp_path.iterdir()) == []
        return error.splitlines()[-1]

    return run_tool


def images_of(runner, images):
    return torch.from_numpy(runner([images]))


def read_opencv_yaml(path):
    """OpenCV's header is no YAML of others."""
    first, rest = Path(path).read_text().split("\n", 1)
    assert first == "%YAML:1.0"
    return yaml.safe_load(rest)


def test_boxmot_normalises_as_imagenet(run, weights):
    printed = run("boxmot", "a.onnx")
    assert "ImageNet" in printed and "boxmot track --reid a.onnx" in printed
    model, _ = load_reid_model(str(weights / "toy-vit_6.pth"), SIZE, sie=(1, 0))
    images = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        want = torch.nn.functional.normalize(model.eval()((images - 0.5) / 0.5))
    torch.testing.assert_close(images_of(onnx_runner("a.onnx"), (images - mean) / std), want)


def test_ultralytics_reads_the_tracker_beside(run):
    assert "botsort_a.yaml" in run("ultralytics", "a.onnx")
    settings = yaml.safe_load(Path("botsort_a.yaml").read_text())
    assert settings["tracker_type"] == "botsort" and settings["with_reid"] is True
    assert settings["model"] == str(Path("a.onnx").resolve()) and len(settings) == 12


@pytest.mark.parametrize("raw", [False, True])
def test_the_section_of_deepstream(run, raw):
    assert "a_nvtracker.yml" in run("deepstream", "a.onnx", *["--raw"] * raw)
    section = read_opencv_yaml("a_nvtracker.yml")["ReID"]
    assert not set(section) - set(DEEPSTREAM)
    assert section["inferDims"] == [3, *SIZE] and section["reidFeatureSize"] == 80
    assert section["netScaleFactor"] == pytest.approx(1 / 255) and section["addFeatureNormalization"] == raw
    assert section["onnxFile"] == str(Path("a.onnx").resolve())


def test_a_model_of_triton(run):
    run("triton", "person", "--cameras", "--fp16")
    graph = onnx.load("person/1/model.onnx").graph
    text = Path("person/config.pbtxt").read_text()
    assert [each.name for each in graph.input] == re.findall(r'\{ name: "(.*?)", data_type: TYPE', text)[:2]
    assert 'name: "person"' in text and "dims: [ 3, 32, 16 ]" in text and "dims: [ 80 ]" in text
    assert 'name: "camera_label", data_type: TYPE_INT64, dims: [ 1 ], reshape: { shape: [ ] }' in text
    assert sorted(map(str, Path().rglob("*.*"))) == ["person/1/model.onnx", "person/config.pbtxt"]


def test_a_model_of_triton_is_written_again(run):
    for raw in ([], ["--raw"]):
        run("triton", "repository/person", *raw)
    assert onnx.load("repository/person/1/model.onnx").metadata_props
    assert 'name: "person"' in Path("repository/person/config.pbtxt").read_text()


def test_both_sides_for_triton(run):
    run("triton", "images", "--text", "texts", weight="toy-vit_3.pth")
    length = onnx.load("texts/1/model.onnx").graph.input[0].type.tensor_type.shape.dim[1].dim_value
    assert (
        f'name: "tokens", data_type: TYPE_INT64, dims: [ {length} ]' in Path("texts/config.pbtxt").read_text()
    )
    assert Path("images/config.pbtxt").is_file()


def test_a_checkpoint_of_boxmot21(run, weights, monkeypatch):
    """The toy tower stands for the ViT-B/16 that boxmot builds."""
    facts = {"width": 48, "layers": (2,), "patch": (8, 8), "stride": (8, 8), "size": SIZE}
    _, info = load_reid_model(str(weights / "toy-vit_6.pth"), SIZE)
    facts = {name: getattr(info, name) for name in facts}
    monkeypatch.setattr(clients, "_BOXMOT21", clients._BOXMOT21 | facts)
    printed = run("boxmot21", "clip_market1501.pt", "--neck", "after")
    assert "clip_market1501.pt: checkpoint" in printed and "cosine with the model's features 1.0" in printed
    assert "RGB with the model's mean and std" in printed and "as trained" in printed
    state = torch.load("clip_market1501.pt", weights_only=True)
    assert {name.split(".")[0] for name in state} == {"image_encoder", "bottleneck", "bottleneck_proj"}
    one, _ = load_reid_model("clip_market1501.pt", SIZE, name="toy-vit", neck_feature="after")
    other, _ = load_reid_model(str(weights / "toy-vit_6.pth"), SIZE, sie=(1, 0), neck_feature="after")
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        np.testing.assert_allclose(one.eval()(images), other.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_with_other_features_is_not_kept(refused, weights, monkeypatch):
    _, info = load_reid_model(str(weights / "toy-vit_6.pth"), SIZE)
    facts = {name: getattr(info, name) for name in ("width", "layers", "patch", "stride", "size")}
    monkeypatch.setattr(clients, "_BOXMOT21", clients._BOXMOT21 | facts)
    monkeypatch.setattr("model.measure_parity", lambda *_: Parity(0.1, 5.0))
    assert "cosine 0.1" in refused("boxmot21", "clip_market1501.pt", "--neck", "after")


def test_what_a_client_does_not_take(refused):
    assert "imagenet" in refused("boxmot", "a.onnx", "--pixels", "unit")
    assert "--cameras" in refused("boxmot", "a.onnx", "--cameras")
    assert "--raw" in refused("ultralytics", "a.onnx", "--raw")
    assert "int8" in refused("deepstream", "a.onnx", "--int8", "--cosine-only")
    assert "program" in refused("triton", "a", "--program")
    assert "opset" in refused("boxmot", "a.onnx", "--opset", "0")
    assert "rows" in refused("triton", "a", "--cameras", weight="toy-vit_3.pth")
    assert "--text" in refused("deepstream", "a.onnx", "--text", "b.onnx", weight="toy-vit_3.pth")
    assert "clip_market1501.pt" in refused("boxmot21", "market1501.pt")
    assert "clip_market1501.pt" in refused("boxmot21", "clip_resnet50.pt")
    for option in ("--opset", "--map-drop"):
        assert option in refused("boxmot21", "clip_market1501.pt", option, "18")
    assert "width" in refused("boxmot21", "clip_market1501.pt")
    assert "text search" in refused("boxmot21", "clip_cuhk.pt", weight="toy-vit_3.pth")
    assert "boxmot, boxmot21" in refused("opencv", "a.onnx").replace("'", "")
