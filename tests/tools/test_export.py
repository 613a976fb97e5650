"""tools/export.py: which files come out, that they give the model's features, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision

import clipreid
from config import cfg_base
from config.load import load_config
from datasets import read_image
from model import (
    PIXELS,
    image_graph,
    load_reid_model,
    load_text_search_model,
    make_model,
    onnx_runner,
    text_graph,
    tokenize_captions,
)
from model.export import files
from retrieval import evaluate
from tests.guests import guest_python, run_guest
from tests.toys import MODEL, TOWERS, draw_captions, draw_market, save_text_model, words
from tools import export
from tools.exporting import writing
from tools.exporting.ranking import map_by

pytestmark = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch is too old")
SIZE = (32, 16)


@pytest.fixture(scope="module")
def weights(toy_towers, tmp_path_factory):
    """A re-id model with side information in toy-vit_6.pth, a text search model in toy-vit_3.pth."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    settings = MODEL | {"INPUT.SIZE_TRAIN": list(SIZE), "MODEL.SIE_CAMERA": True, "TEST.NECK_FEAT": "before"}
    model = make_model(load_config(cfg_base, "", words(settings)), 5, 3, 1)
    with torch.no_grad():
        model.cv_embed.normal_()
    torch.save(model.state_dict(), folder / "toy-vit_6.pth")
    save_text_model(folder / "toy-vit_3.pth")
    return folder


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    return draw_market(tmp_path_factory.mktemp("data"), range(2), range(10, 16))


@pytest.fixture
def run(weights, tmp_path, monkeypatch, capsys):
    """run('--out', 'a.onnx') -> what was printed, without lines of the log."""
    monkeypatch.chdir(tmp_path)

    def run_tool(*options, weight="toy-vit_6.pth"):
        size = [] if weight == "toy-vit_3.pth" else ["--size", *map(str, SIZE)]
        assert export.main(["--weight", str(weights / weight), *size, *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        return "\n".join(line for line in lines if "transreid" not in line)

    return run_tool


@pytest.fixture
def refused(weights, tmp_path, monkeypatch, capsys):
    """refused('--out', 'a.onnx') -> the one line on stderr; no file is left."""
    monkeypatch.chdir(tmp_path)

    def run_tool(*options, weight="toy-vit_6.pth"):
        size = [] if weight == "toy-vit_3.pth" else ["--size", *map(str, SIZE)]
        with pytest.raises(SystemExit) as end:
            export.main(["--weight", str(weights / weight), *size, *options])
        error = capsys.readouterr().err
        assert end.value.code == 2 and "error: " in error and "Traceback" not in error
        assert list(tmp_path.iterdir()) == []
        return error.splitlines()[-1]

    return run_tool


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def normalised(images):
    return (images - 0.5) / 0.5


def facts_of(path):
    return {each.key: each.value for each in onnx.load(path).metadata_props}


# ---- what comes out


def test_features_of_rgb_from_0_to_1(run, weights, images):
    printed = run("--out", "a.onnx")
    model = clipreid.load_model(weights / "toy-vit_6.pth", device="cpu", size=SIZE).network
    with torch.no_grad():
        want = torch.nn.functional.normalize(model(normalised(images)))
    torch.testing.assert_close(torch.from_numpy(onnx_runner("a.onnx")([images])), want)
    assert "input   images (batch, 3, 32, 16) float32, RGB of 0 to 1" in printed
    assert "output  features (batch, 80) float32, L2 norm 1" in printed
    assert (
        re.search(r"a.onnx: fp32, \d+\.\d MB", printed) and "cosine with the model's features 1.0" in printed
    )
    assert json.loads(facts_of("a.onnx")["clipreid.card"])["size"] == [32, 16]


def test_options_of_pixels_features_and_form(run, weights, images):
    printed = run(
        "--out", "a.onnx", "--no-preprocessing", "--raw", "--fp16", "--opset", "18", "--neck", "after"
    )
    model = clipreid.load_model(
        weights / "toy-vit_6.pth", device="cpu", size=SIZE, neck_feature="after"
    ).network
    with torch.no_grad():
        want = model(normalised(images))
    got = torch.from_numpy(onnx_runner("a.onnx")([normalised(images)]))
    assert 0 < (got - want).abs().max() < 0.01 * want.abs().max()
    assert onnx.load("a.onnx").opset_import[0].version == 18
    assert "RGB with the model's mean and std" in printed and "as trained" in printed and ": fp16" in printed
    assert facts_of("a.onnx")["clipreid.input"] == "normalised"


def test_cameras_as_an_input(run, weights, images):
    printed = run("--out", "a.onnx", "--cameras", "--pixels", "imagenet")
    assert [each.name for each in onnx.load("a.onnx").graph.input] == ["images", "camera_label"]
    assert "camera_label (batch) int64" in printed and "ImageNet" in printed
    features = onnx_runner("a.onnx")([images[:1].expand(3, -1, -1, -1), torch.tensor([0, 2, -1])])
    assert np.abs(features[0] - features[1]).max() > 1e-3 < np.abs(features[1] - features[2]).max()


def test_a_program(run, images):
    assert ": program, " in run("--out", "a.pt2")
    run("--out", "a.onnx")
    with torch.no_grad():
        got = torch.export.load("a.pt2").module()(images)
    torch.testing.assert_close(got, torch.from_numpy(onnx_runner("a.onnx")([images])))


def test_both_sides_of_text_search(run, weights, images, tmp_path_factory):
    captions = draw_captions(tmp_path_factory.mktemp("captions"))
    options = ("--text", "b.onnx", "--data", f"captions={captions}")
    printed = run("--out", "a.onnx", *options, weight="toy-vit_3.pth")
    assert "tokens (batch, 16) int64" in printed and printed.count("L2 norm 1") == 2
    model = clipreid.load_text_model(weights / "toy-vit_3.pth", device="cpu")
    sentences = ["a man in a red coat", "a bag"]
    want = model.encode_text(sentences).features
    got = onnx_runner("b.onnx")([tokenize_captions(sentences, 16)])
    torch.testing.assert_close(torch.from_numpy(got), want, rtol=1e-4, atol=1e-5)
    assert onnx_runner("a.onnx")([images]).shape == (3, want.shape[1])
    maps = re.findall(r"mAP on captions: (\S+) by the model, (\S+) by the file", printed)
    assert len(maps) == 2 and len({each for pair in maps for each in pair}) == 1


def test_the_face_does_the_same(run, weights, market, images):
    run("--out", "a.onnx", "--cameras", "--raw")
    model = clipreid.load_model(weights / "toy-vit_6.pth", device="cpu", size=SIZE)
    done = model.export("b.onnx", raw=True, cameras=True, data=f"market1501={market}")
    inputs = [images, torch.tensor([0, 2, -1])]
    np.testing.assert_allclose(onnx_runner("b.onnx")(inputs), onnx_runner("a.onnx")(inputs), rtol=1e-6)
    assert done.inputs == {"images": (3, 32, 16), "camera_label": ()} and done.width == 80
    assert done.maps[0] == done.maps[1] and done.parity.cosine > 0.9999
    with pytest.raises(ValueError, match="`cosine_only`"):
        model.export("c.onnx", form="int8")
    assert sorted(map(str, Path().iterdir())) == ["a.onnx", "b.onnx"]


def test_the_face_of_text_search(weights, tmp_path):
    model = clipreid.load_text_model(weights / "toy-vit_3.pth", device="cpu")
    image, text = model.export(tmp_path / "a.pt2", tmp_path / "b.pt2")
    assert (list(image.inputs), list(text.inputs)) == (["images"], ["tokens"])
    with torch.no_grad():
        got = torch.export.load(tmp_path / "b.pt2").module()(tokenize_captions(["a bag"], 16))
    torch.testing.assert_close(got, model.encode_text(["a bag"]).features, rtol=1e-4, atol=1e-5)


OPENVINO = """
import sys
import numpy as np
import openvino
hints = {"INFERENCE_PRECISION_HINT": "f32"}
model = openvino.Core().compile_model(sys.argv[1], "CPU", hints)
print(*(port.get_any_name() for port in (*model.inputs, *model.outputs)))
inputs = np.load(sys.argv[2])
np.save(sys.argv[3], model({name: inputs[name] for name in inputs.files})["features"])
"""


@pytest.mark.guest
def test_openvino_reads_the_same_file(run, images):
    run("--out", "a.onnx", "--cameras")
    cameras = torch.tensor([0, 2, -1])
    np.savez("inputs.npz", images=images, camera_label=cameras)
    Path("driver.py").write_text(OPENVINO)
    python = guest_python("openvino", ("openvino>=2025.0",))
    names = run_guest(python, Path("driver.py"), ["a.onnx", "inputs.npz", "features.npy"])
    assert names.split() == ["images", "camera_label", "features"]
    want = onnx_runner("a.onnx")([images, cameras])
    np.testing.assert_allclose(np.load("features.npy"), want, rtol=1e-4, atol=1e-6)


# ---- rankings decide about int8


def test_int8_by_map(run, weights, market):
    printed = run("--out", "a.onnx", "--int8", "--data", f"market1501={market}", "--map-drop", "100")
    by_model, by_file = map(
        float, re.search(r"mAP on \S+: (\S+) by the model, (\S+) by the file", printed).groups()
    )
    dataset = clipreid.read_dataset("market1501", market)
    model = clipreid.load_model(weights / "toy-vit_6.pth", device="cpu", size=SIZE)
    query, gallery = (model.encode_image(part).with_pictures() for part in (dataset.query, dataset.gallery))
    assert by_model == pytest.approx(100 * evaluate(query, gallery).mAP, abs=0.006)
    assert 0 < by_file <= 100


@pytest.mark.parametrize("pixels", PIXELS)
def test_map_is_that_of_what_the_graph_gets(weights, market, pixels):
    model, info = load_reid_model(weights / "toy-vit_6.pth", SIZE)
    mean, std = map(torch.tensor, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    if pixels != "imagenet":
        mean, std = torch.tensor({"unit": [[0.0], [1.0]], "normalised": [[0.5], [0.5]]}[pixels])
    dataset = clipreid.read_dataset("market1501", market)
    seen = []

    def corner(inputs):
        """The red of some pixels: features that rank badly."""
        seen.extend(inputs[1].tolist())
        return (inputs[0] * std.view(-1, 1, 1) + mean.view(-1, 1, 1))[:, 0, :2, 0].numpy()

    found = map_by(image_graph(model, info, pixels, sides=True), model, info, dataset)(corner)

    def feature(record):
        return torchvision.transforms.functional.to_tensor(read_image(record.path))[0, :2, 0].tolist()

    query, gallery = (
        clipreid.FeatureSet(
            torch.nn.functional.normalize(torch.tensor([feature(each) for each in part])),
            *([getattr(each, name) for each in part] for name in ("pid", "camid", "path")),
        )
        for part in (dataset.query, dataset.gallery)
    )
    assert found == pytest.approx(evaluate(query.with_pictures(), gallery.with_pictures()).mAP, abs=1e-6)
    assert 0.1 < found < 0.9 and set(seen) == {0, 1}


def test_data_of_another_kind(weights, market):
    model, info = load_text_search_model(weights / "toy-vit_3.pth")
    with pytest.raises(ValueError, match=r"data is market1501; allowed for this model: .* captions"):
        map_by(text_graph(model, info), model, info, clipreid.read_dataset("market1501", market))


def test_a_file_that_ranks_worse_is_not_kept(refused, run, market, monkeypatch):
    maps = {None: 0.8}
    monkeypatch.setattr("tools.exporting.ranking.map_by", lambda *_: lambda run: maps.get(run, 0.794))
    options = ("--out", "a.onnx", "--fp16", "--data", f"market1501={market}")
    error = refused(*options)
    assert "mAP 79.40" in error and "80.00" in error and "0.5 points" in error
    assert "79.40 by the file" in run(*options, "--map-drop", "0.7")


def test_int8_by_cosine(run, refused, monkeypatch):
    assert ": int8, " in run("--out", "a.onnx", "--int8", "--cosine-only")
    Path("a.onnx").unlink()
    monkeypatch.setattr(writing, "INT8_COSINE", 1.1)
    assert re.search(
        r"int8.* cosine [01]\.\d+; allowed: 1.1", refused("--out", "a.onnx", "--int8", "--cosine-only")
    )


# ---- what is refused


def test_a_file_of_other_features_is_not_kept(refused, monkeypatch):
    monkeypatch.setitem(files.LEAST_COSINE, "fp32", 1.1)
    assert "cosine 1.000000" in refused("--out", "a.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "a.onnx", "--int8"], "--data, on which mAP is compared; allowed without: --cosine-only"),
        (["--out", "a.pt"], "--out is a.pt; allowed for fp32: a name that ends with .onnx"),
        (
            ["--out", "a.onnx", "--program"],
            "--out is a.onnx; allowed for program: a name that ends with .pt2",
        ),
        (["--out", "a.pt2", "--opset", "20"], "--opset is given; allowed for program: none"),
        (["--out", "a.onnx", "--opset", "3"], "--opset is 3; allowed: 18 to 23"),
        (["--out", "a.onnx", "--map-drop", "1"], "--map-drop is 1.0; allowed: 0 or more, with --data"),
        (["--out", "a.onnx", "--cosine-only"], "--cosine-only is given; allowed: for int8 without --data"),
        (["--out", "a.onnx", "--text", "b.onnx"], "--text is given; allowed: with a text search model"),
        (["--out", "a.onnx", "--fp16", "--int8"], "not allowed with argument --fp16"),
        (["--out", "none/a.onnx"], "--out none/a.onnx"),
        (["--out", "a.onnx", "--data", "nothing"], "DATASETS.NAMES 'nothing' is unknown"),
    ],
)
def test_options_that_do_not_go_together(refused, options, message):
    assert message in refused(*options)


def test_weights_of_clip_need_the_name(weights, refused, drawn_clip):
    torch.save(drawn_clip(TOWERS["toy-vit"]), weights / "clip.pt")
    assert re.search(
        r"--weight \S+clip.pt is CLIP's own; give the --model", refused("--out", "a.onnx", weight="clip.pt")
    )


def test_both_sides_in_one_file(refused):
    error = refused("--out", "a.onnx", "--text", "a.onnx", weight="toy-vit_3.pth")
    assert "--text is a.onnx; allowed: another file than --out" in error


def test_cameras_without_a_table(refused):
    error = refused("--out", "a.onnx", "--cameras", weight="toy-vit_3.pth")
    assert error.startswith("error: --cameras is True; allowed: False")
