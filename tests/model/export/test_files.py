"""Files of exported graphs: their forms, and that none is left that gives other features."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from model import FORMS, export_onnx, image_graph, measure_parity, onnx_runner, write_graph
from model.export import files
from utils.package import MissingExtra

pytestmark = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch is too old")


def count(path, *kinds):
    return sum(node.op_type in kinds for node in onnx.load(path).graph.node)


def left(folder):
    return sorted(each.name for each in folder.iterdir())


# ---- forms


def test_fp16_is_half_as_large(exported, tmp_path):
    _, _, graph, plain = exported("deep")
    parity = write_graph(graph, tmp_path / "half.onnx", "fp16")
    assert 0.999 <= parity.cosine < 1 and left(tmp_path) == ["half.onnx"]
    content = onnx.load(tmp_path / "half.onnx")
    ends = (*content.graph.input, *content.graph.output)
    assert {each.type.tensor_type.elem_type for each in ends} == {onnx.TensorProto.FLOAT}
    sizes = [
        sum(len(each.raw_data) for each in onnx.load(path).graph.initializer)
        for path in (tmp_path / "half.onnx", plain)
    ]
    assert sizes[0] < 0.52 * sizes[1]
    assert {each.key: each.value for each in content.metadata_props} == {
        each.key: each.value for each in onnx.load(plain).metadata_props
    }


def test_fp16_holds_squares_of_large_features(loaded, tmp_path):
    model, info = loaded("overlap")
    with torch.no_grad():
        model.image_encoder.ln_post.weight.mul_(300)
    assert write_graph(image_graph(model, info), tmp_path / "half.onnx", "fp16").cosine >= 0.999


def test_int8_takes_all_linear_layers(exported, tmp_path, caplog):
    _, _, graph, plain = exported("deep")
    with caplog.at_level("INFO", "transreid.model"):
        parity = write_graph(graph, tmp_path / "int8.onnx", "int8")
    products = count(plain, "MatMul", "Gemm") - 2 * 3  # those of attention have no weights
    assert count(tmp_path / "int8.onnx", "MatMulInteger") == products > 12
    assert f"{products} of {products} linear layers" in caplog.text and "1 convolutions" in caplog.text
    assert 0.99 < parity.cosine < 1 and (tmp_path / "int8.onnx").stat().st_size < 0.6 * plain.stat().st_size
    assert {each.key for each in onnx.load(tmp_path / "int8.onnx").metadata_props} == {
        f"clipreid.{name}" for name in graph.facts
    }


def test_a_program_of_torch(exported, tmp_path):
    _, _, graph, _ = exported("deep")
    parity = write_graph(graph, tmp_path / "toy.pt2", "program")
    assert parity.difference <= 1e-6
    held = dict.fromkeys(["clipreid.kind", "clipreid.card"], "")
    program = torch.export.load(tmp_path / "toy.pt2", extra_files=held)
    assert held["clipreid.kind"] == "image" and held["clipreid.card"] == graph.facts["card"]
    assert not [name for name in program.state_dict if "text" in name or "classifier" in name]
    with torch.no_grad():
        for size in (1, 7):
            images = graph.draw(size)
            torch.testing.assert_close(program.module()(*images), graph.module(*images))


def test_files_do_not_tell_where_the_code_is(exported, repository, tmp_path):
    _, _, graph, plain = exported("deep")
    write_graph(graph, tmp_path / "toy.pt2", "program")
    with zipfile.ZipFile(tmp_path / "toy.pt2") as archive:
        held = [plain.read_bytes(), *map(archive.read, archive.namelist())]
    for place in (repository, Path(torch.__file__).parent):
        assert not any(str(place).encode() in each for each in held)


# ---- what is refused leaves no file


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_other_features_is_not_kept(small_graph, tmp_path, form):
    def changing(module, x):
        module.calls += 1
        return module.layer(x) * (-1) ** module.calls  # an exporter sees one of the calls

    (tmp_path / "a").write_text("former")
    if form == "int8":  # only has to run
        write_graph(small_graph(changing), tmp_path / "a", form)
        return
    with pytest.raises(ValueError, match=rf"a \({form}\).*cosine -?\d.*allowed: cosine 0.999"):
        write_graph(small_graph(changing), tmp_path / "a", form)
    assert left(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "former"


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_features_that_are_not_finite_are_not_kept(small_graph, tmp_path, form):
    graph = small_graph(lambda module, x: module.layer(x) / (module.layer(x) * 0))
    with pytest.raises(ValueError, match="cosine nan"):
        write_graph(graph, tmp_path / "a.onnx", form)
    assert left(tmp_path) == []


def test_the_caller_may_refuse(small_graph, tmp_path):
    def refuse(path):
        assert onnx_runner(path)(small_graph().draw(2)).shape == (2, 3)
        raise ValueError("mAP is lower")

    with pytest.raises(ValueError, match="mAP is lower"):
        write_graph(small_graph(), tmp_path / "a.onnx", accept=refuse)
    assert left(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_fixed_batch_is_refused(small_graph, tmp_path, form):
    graph = small_graph(lambda module, x: module.layer(x) + module.layer.bias.expand(len(x), -1))
    with pytest.raises(ValueError, match="batch") as error:
        write_graph(graph, tmp_path / "a.onnx", form)
    assert "\n" not in str(error.value) and left(tmp_path) == []


def test_a_graph_of_a_fixed_batch_is_seen(small_graph, tmp_path):
    write_graph(small_graph(), tmp_path / "a.onnx")
    content = onnx.load(tmp_path / "a.onnx")
    files._require_dynamic(content)
    content.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ValueError, match="batch of input is 2; allowed: any"):
        files._require_dynamic(content)


def test_images_of_another_size_are_refused(loaded, tmp_path):
    model, _ = loaded("resnet")
    with pytest.raises(ValueError, match=r"\(128, 32\) give a grid"):
        export_onnx(model, tmp_path / "a.onnx", (128, 32))
    assert left(tmp_path) == []


def test_nothing_to_make_int8(small_graph, tmp_path):
    with pytest.raises(ValueError, match=r"int8.*no linear layers"):
        write_graph(small_graph(lambda module, x: x * 2), tmp_path / "a.onnx", "int8")
    assert left(tmp_path) == []


def test_weights_that_one_file_cannot_hold(small_graph, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MOST_BYTES", 60)
    with pytest.raises(ValueError, match="GB of weights; allowed in one ONNX file"):
        write_graph(small_graph(), tmp_path / "a.onnx")
    assert left(tmp_path) == []


def test_an_unknown_form(small_graph, tmp_path):
    with pytest.raises(ValueError, match="form is 'bf16'; allowed: 'fp32', 'fp16', 'int8', 'program'"):
        write_graph(small_graph(), tmp_path / "a.onnx", "bf16")


@pytest.mark.parametrize("opset", [17, 24])
def test_an_unknown_opset(small_graph, tmp_path, opset):
    with pytest.raises(ValueError, match=f"opset is {opset}; allowed: 18 to 23"):
        write_graph(small_graph(), tmp_path / "a.onnx", opset=opset)


@pytest.mark.parametrize("opset", [18, 23])
def test_another_opset(small_graph, tmp_path, opset):
    write_graph(small_graph(), tmp_path / "a.onnx", opset=opset)
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == opset


def test_an_old_torch_is_named(small_graph, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.6.0+cu124"))
    with pytest.raises(ValueError, match=r"torch is 2\.6\.0.*2\.7 or newer"):
        write_graph(small_graph(), tmp_path / "a.onnx")


def test_missing_packages_are_named(small_graph, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=r"onnxscript.*clipreid\[onnx\]"):
        write_graph(small_graph(), tmp_path / "a.onnx")
    write_graph(small_graph(), tmp_path / "a.pt2", "program")  # torch's own
    assert left(tmp_path) == ["a.pt2"]


def test_a_folder_that_does_not_exist(small_graph, tmp_path):
    with pytest.raises(OSError, match=r"none.*cannot be written"):
        write_graph(small_graph(), tmp_path / "none/a.onnx")


# ---- parity


def test_parity_is_that_of_the_worst_row(small_graph):
    graph = small_graph()
    with torch.no_grad():
        wanted = [graph.module(*graph.draw(size)).numpy() for size in files.BATCHES]

    def turned(inputs):
        features = graph.module(*inputs).detach().numpy().copy()
        features[-1] += np.float32([0.1, 0, 0])
        return features

    rows = [want[-1].astype(float) for want in wanted]
    moved = [row + np.array([0.1, 0, 0]) for row in rows]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(rows, moved, strict=True)]
    parity = measure_parity(graph, turned)
    assert parity.cosine == pytest.approx(min(cosines), abs=1e-6)
    assert parity.difference == pytest.approx(max(0.1 / np.abs(want).max() for want in wanted), rel=1e-4)


def test_features_of_another_shape_are_refused(small_graph):
    with pytest.raises(ValueError, match=r"batch of 1 are \(2, 3\); allowed: \(1, 3\)"):
        measure_parity(small_graph(), lambda inputs: np.zeros((2, 3)))
