"""Detectors of each kind on graphs whose boxes are known."""

import numpy as np
import onnx
import pytest
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper

from tools.video import detectors
from tools.video.detectors import make_detector

FRAME = np.zeros((200, 400, 3), dtype=np.uint8)


def write_constants(path, given, shape, dtype, outputs):
    """A graph with outputs of constants by name, whatever comes in."""
    named = [numpy_helper.from_array(value, f"{name}_value") for name, value in outputs.items()]
    nodes = [helper.make_node("Identity", [f"{name}_value"], [name]) for name in outputs]
    ends = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in outputs.items()
    ]
    start = helper.make_tensor_value_info(given, dtype, shape)
    graph = helper.make_graph(nodes, "constants", [start], ends, named)
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_ssd(tmp_path):
    outputs = {
        "detection_boxes": np.array([[[0.1, 0.2, 0.5, 0.3], [0, 0, 1, 1]]], dtype=np.float32),
        "detection_scores": np.array([[0.9, 0.1]], dtype=np.float32),
        "detection_classes": np.array([[1, 2]], dtype=np.float32),
    }
    path = write_constants(tmp_path / "a.onnx", "image", [1, None, None, 3], TensorProto.UINT8, outputs)
    found = make_detector(f"ssd={path}")(FRAME)
    np.testing.assert_allclose(found.boxes, [[80, 20, 120, 100], [0, 0, 400, 200]], rtol=1e-6)
    assert found.scores.tolist() == pytest.approx([0.9, 0.1]) and found.classes.tolist() == [1, 2]


def test_yolo_undoes_the_border_and_drops_doubles(tmp_path):
    # In 320 x 320 the frame has scale 0.8 and lies between 80 and 240.
    columns = [[160, 160, 80, 40, 0.1, 0.9], [161, 160, 80, 40, 0.1, 0.8], [40, 100, 16, 32, 0.7, 0.1]]
    outputs = {"output0": np.array(columns, dtype=np.float32).T[None]}
    path = write_constants(tmp_path / "a.onnx", "images", [1, 3, 320, 320], TensorProto.FLOAT, outputs)
    found = make_detector(f"yolo={path}")(FRAME)
    np.testing.assert_allclose(found.boxes, [[150, 75, 250, 125], [40, 5, 60, 45]], rtol=1e-5)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7]) and found.classes.tolist() == [1, 0]


def test_yolo_end_to_end(tmp_path):
    outputs = {"output0": np.array([[[120, 140, 200, 180, 0.9, 2], [0, 0, 0, 0, 0, 0]]], dtype=np.float32)}
    path = write_constants(tmp_path / "A.ONNX", "images", [1, 3, 320, 320], TensorProto.FLOAT, outputs)
    found = make_detector(f"yolo={path}")(FRAME)
    np.testing.assert_allclose(found.boxes[0], [150, 75, 250, 125], rtol=1e-5)
    assert (found.scores[0], found.classes[0]) == (pytest.approx(0.9), 2)


@pytest.mark.parametrize("shape", [(1, 56, 20), (2, 6, 20), (1, 6)])
def test_other_outputs_of_a_yolo(tmp_path, shape):
    outputs = {"output0": np.full(shape, 200, dtype=np.float32)}
    path = write_constants(tmp_path / "a.onnx", "images", [1, 3, 320, 320], TensorProto.FLOAT, outputs)
    with pytest.raises(ValueError, match="allowed"):
        make_detector(f"yolo={path}")(FRAME)


def test_a_graph_for_other_inputs(tmp_path):
    outputs = {"detection_boxes": np.zeros((1, 1, 4), dtype=np.float32)}
    path = write_constants(tmp_path / "a.onnx", "images", [1, 3, 64, 64], TensorProto.FLOAT, outputs)
    with pytest.raises(ValueError, match=r"a\.onnx cannot be run on a frame"):
        make_detector(f"ssd={path}")(FRAME)


def test_exported_by_torchvision(tmp_path):
    outputs = {
        "3076": np.array([[1, 2, 3, 4]], dtype=np.float32),
        "3078": np.array([7], dtype=np.int64),
        "3077": np.array([0.5], dtype=np.float32),
    }
    path = write_constants(tmp_path / "a.onnx", "image", [3, None, None], TensorProto.FLOAT, outputs)
    found = make_detector(f"exported={path}")(FRAME)
    assert (found.boxes.tolist(), found.scores.tolist(), found.classes.tolist()) == (
        [[1, 2, 3, 4]],
        [0.5],
        [7],
    )


@pytest.mark.slow
def test_torchvision_with_weights_of_the_user(tmp_path):
    torch.manual_seed(0)
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=2).eval()
    model.roi_heads.box_predictor.cls_score.bias.data[1] = 9
    torch.save(model.state_dict(), tmp_path / "own.pth")
    frame = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    found = make_detector(f"{name}={tmp_path / 'own.pth'}")(frame)
    with torch.no_grad():
        want = model([torch.from_numpy(frame).permute(2, 0, 1) / 255])[0]
    np.testing.assert_allclose(found.boxes, want["boxes"].numpy(), rtol=1e-4)
    assert len(found.scores) and set(found.classes.tolist()) == {1}


def test_other_words_and_files(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    for named in ("a.onnx", "cascade=a.onnx", "yolo="):
        with pytest.raises(ValueError, match=r"ssd, yolo, exported, .*fasterrcnn"):
            make_detector(named)
    with pytest.raises(FileNotFoundError, match=r"b\.onnx"):
        make_detector("yolo=b.onnx")
    with pytest.raises(ValueError, match=r"a\.onnx"):
        make_detector(f"yolo={tmp_path / 'a.onnx'}")
    outputs = {"boxes": np.zeros((1, 4), dtype=np.float32)}
    path = write_constants(tmp_path / "b.onnx", "x", [1, 300, 300, 3], TensorProto.UINT8, outputs)
    with pytest.raises(ValueError, match="detection_boxes"):
        make_detector(f"ssd={path}")(FRAME)
    with pytest.raises(ValueError, match="2 dimensions"):
        detectors.yolo(detectors.Graph(dict, (1, 3), "float32"))
