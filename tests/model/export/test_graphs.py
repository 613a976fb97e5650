"""Exported graphs against the models, with the preparation of images done by hand."""

import json

import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from config import cfg_base
from model import ClipTokenizer, bake_mean_row, export_onnx, image_graph, load_reid_model, text_graph
from tests.model.export.conftest import CASES, MEAN, SIZE, STD
from utils.files import sha256_of_file

pytestmark = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch is too old")
SENTENCES = [
    "A man in a red coat.",
    "bag",
    "a woman with black hair and a long skirt walks away",
    "x y",
]


def run(path, *inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    given = {name: each.numpy() for name, each in zip(names, inputs, strict=True)}
    return torch.from_numpy(session.run(None, given)[0])


def affine(images, mean, std):
    return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def assert_close(got, want):
    assert got.shape == want.shape and (got - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize("case", [*CASES, "dual"])
@pytest.mark.parametrize("count", [1, 5])
@torch.no_grad()
def test_images(exported, fill, case, count):
    model, info, _, path = exported(case)
    options = CASES[case][2] if case in CASES else {}
    images = fill("images", (count, 3, *info.size), 0.2, 0.5).clamp(0, 1)
    wanted = affine(images, info.mean, info.std)
    if case == "dual":
        want = model.encode_image(wanted)
    else:
        assert (info.mean, info.std, info.size) == (MEAN, STD, SIZE)
        want = model(wanted)
    inputs = [images]
    if options.get("pixels") == "imagenet":
        inputs = [affine(images, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)]
    if case == "sides":
        ids = torch.tensor([2, -1, 0, 3, 1])[:count], torch.tensor([1, 1, 0, 0, 2])[:count]
        inputs, want = [wanted, *ids], model(wanted, *ids)
        assert count == 1 or (want[0] - want[1]).abs().max() > 1e-2
    assert_close(run(path, *inputs), want if options.get("raw") else F.normalize(want, dim=1))


@pytest.mark.parametrize("count", [1, 4])
@torch.no_grad()
def test_texts(exported, count):
    model, info, _, path = exported("text")
    tokens, _ = ClipTokenizer(info.text_length)(SENTENCES[:count])
    assert_close(run(path, tokens), F.normalize(model.encode_text(tokens), dim=1))


@pytest.mark.parametrize(
    ("case", "inputs", "width"),
    [
        ("deep", {"images": (3, *SIZE)}, 80),
        ("resnet", {"images": (3, *SIZE)}, 272),
        ("sides", {"images": (3, *SIZE), "camera_label": (), "view_label": ()}, 80),
        ("text", {"tokens": (16,)}, 16),
    ],
)
def test_inputs_and_outputs(exported, case, inputs, width):
    content = onnx.load(exported(case).path)
    shapes = {
        each.name: [size.dim_param or size.dim_value for size in each.type.tensor_type.shape.dim]
        for each in (*content.graph.input, *content.graph.output)
    }
    wanted = {name: ["batch_size", *shape] for name, shape in inputs.items()}
    assert shapes == wanted | {"features": ["batch_size", width]}
    types = [each.type.tensor_type.elem_type for each in content.graph.input]
    image = onnx.TensorProto.INT64 if case == "text" else onnx.TensorProto.FLOAT
    assert types == [image, *[onnx.TensorProto.INT64] * (len(inputs) - 1)]
    assert [each.version for each in content.opset_import if not each.domain] == [20]


@pytest.mark.parametrize(("case", "blocks"), [("overlap", 3), ("deep", 3), ("sides", 3), ("text", 2)])
def test_linear_layers_read_stored_weights(exported, case, blocks):
    graph = onnx.load(exported(case).path).graph
    stored = {each.name for each in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    others = [node for node in products if node.input[1] not in stored]
    assert len(others) == 2 * blocks  # attention
    assert len(products) - len(others) >= 4 * blocks
    gemms = [node for node in graph.node if node.op_type == "Gemm"]
    assert len(gemms) == (2 if case == "deep" else 0)  # of the adapter, whose input has no tokens
    assert all(node.input[1] in stored for node in gemms)
    assert {each.f for node in gemms for each in node.attribute if each.name == "alpha"} <= {1.0}


def test_metadata(exported):
    def facts(case):
        _, info, _, path = exported(case)
        found = {each.key: each.value for each in onnx.load(path).metadata_props}
        card = json.loads(found.pop("clipreid.card"))
        assert card["sha256"] == sha256_of_file(info.path)
        return {key.removeprefix("clipreid."): value for key, value in found.items()}, card

    about, card = facts("overlap")
    assert about == {"kind": "image", "input": "imagenet", "output": "l2"}
    assert card["mean"] == list(MEAN) and card["size"] == list(SIZE) and card["resize"] == "bilinear"
    assert card["neck"] == "before"
    assert facts("resnet")[0]["output"] == "raw" and facts("sides")[0]["input"] == "normalised"
    about, card = facts("text")
    assert about == {"kind": "text", "input": "tokens", "output": "l2"}
    assert card["data"] == "cuhk_pedes" and card["text_length"] == 16 and card["tokenizer"] == "clip_bpe"


# ---- the published form


@torch.no_grad()
def test_the_published_form(toy_model, toy_images, tmp_path):
    model = toy_model("MODEL.SIE_VIEW", True, tree=cfg_base, views=3)
    export_onnx(model, tmp_path / "a.onnx", SIZE, opset=18)
    content = onnx.load(tmp_path / "a.onnx")
    assert [each.name for each in content.graph.input] == ["input", "view_label"]
    assert [each.version for each in content.opset_import if not each.domain] == [18]
    images, views = toy_images(3), torch.tensor([2, 0, 1])
    assert_close(run(tmp_path / "a.onnx", images, views), model(images, viewids=views))


def test_the_model_stays_as_it_is(toy_model, toy_images, tmp_path):
    model = toy_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = {name: (id(p), p.requires_grad) for name, p in model.named_parameters()}
    export_onnx(model, tmp_path / "a.onnx", SIZE)
    assert [name for name in onnx.load(tmp_path / "a.onnx").graph.input if name.name != "input"] == []
    assert all(module.training for module in model.modules() if module is not model.text_encoder)
    assert {name: (id(p), p.requires_grad) for name, p in model.named_parameters()} == parameters
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(toy_images(4)).logits[0].sum().backward()  # and can be trained
    assert model.image_encoder.conv1.weight.grad is not None


# ---- the mean row


@torch.no_grad()
def test_the_mean_row_is_baked_in(loaded, toy_images):
    model, _ = loaded("overlap")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    baked = bake_mean_row(model)
    torch.testing.assert_close(baked(toy_images()), model(toy_images()))
    assert set(before) - set(baked.state_dict()) == {"cv_embed"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert baked.image_encoder.conv1.weight.data_ptr() == model.image_encoder.conv1.weight.data_ptr()
    token = baked.state_dict()["image_encoder.class_embedding"] - before["image_encoder.class_embedding"]
    torch.testing.assert_close(token, 3.0 * before["cv_embed"].mean(dim=0))


@torch.no_grad()
def test_without_a_table_nothing_is_baked(loaded, toy_images):
    model, _ = loaded("resnet")
    baked = bake_mean_row(model)
    assert torch.equal(baked(toy_images()), model(toy_images()))
    assert set(baked.state_dict()) == set(model.state_dict())


# ---- refusals


@pytest.mark.parametrize(
    ("case", "options", "words"),
    [
        ("resnet", {"pixels": "bgr"}, r"pixels is 'bgr'; allowed: 'unit', 'normalised', 'imagenet'"),
        ("resnet", {"sides": True}, "sides is True; allowed: False"),
    ],
)
def test_wrong_arguments(loaded, case, options, words):
    with pytest.raises(ValueError, match=words):
        image_graph(*loaded(case), **options)


def test_a_table_of_one_row_leaves_no_choice(loaded):
    path = loaded("overlap")[1].path
    model, info = load_reid_model(path, SIZE, name="toy-vit", stride=(4, 4), sie=(1, 0))
    with pytest.raises(ValueError, match="sides"):
        image_graph(model, info, sides=True)
    with pytest.raises(ValueError, match="sides"):
        image_graph(model, info, "imagenet", sides=True)


def test_drawn_inputs_are_the_same_in_each_call(loaded, dual):
    for graph in (image_graph(*loaded("sides"), sides=True), text_graph(*dual)):
        first, second = graph.draw(4), graph.draw(4)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        with torch.no_grad():
            rows = graph.module(*first)
        assert ((rows @ rows.T).fill_diagonal_(0) < 0.999).all()  # rows that changed places would be seen
