"""Detectors of people and vehicles behind one callable, from an RGB frame (H, W, 3) uint8 to `Detections`.

A kind of detector is a row in `KINDS`; all names of torchvision's detection models are kinds as well.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from torchvision.ops import batched_nms

from utils.package import require_extra
from utils.text import one_line, printable
from utils.weights import read_state_dict

_OVERLAP = 0.5  # IoU of two boxes of one class above which only the better one stays
_SSD = ("boxes", "scores", "classes")
_END_TO_END = 6  # numbers of a box: corners, score, class
_GREY = 114  # around a frame that does not fill the input of a YOLO


class Detections(NamedTuple):
    """Boxes (N, 4) of left, top, right, bottom in pixels, scores (N,) of 0 to 1, class numbers (N,)."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


Detector = Callable[[np.ndarray], Detections]
# Named inputs and outputs of a graph in a file.
Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class Graph(NamedTuple):
    """A graph in a file: how to run it, and the shape (with None where free) and type of its input."""

    run: Run
    shape: tuple[int | None, ...]
    dtype: str


def make_detector(named: str) -> Detector:
    """The detector of KIND=FILE.

    Raises ValueError for another kind or a file that is none of it, FileNotFoundError for a missing file.
    """
    kind, _, file = named.partition("=")
    builders = torchvision.models.list_models(torchvision.models.detection)
    if kind not in (*KINDS, *builders) or not file:
        raise ValueError(
            f"the detector is {printable(named)}; allowed: KIND=FILE with one of "
            f"{', '.join((*KINDS, *builders))}"
        )
    if not Path(file).is_file():
        raise FileNotFoundError(f"{printable(file)}: no such file")
    return KINDS[kind](read_graph(file)) if kind in KINDS else _torchvision(kind, file)


# ---- graphs


def read_graph(file: str) -> Graph:
    """A graph of an .onnx file by onnxruntime, of any other file by OpenVINO."""
    try:
        graph = _read_onnx(file) if file.lower().endswith(".onnx") else _read_openvino(file)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{printable(file)} is no graph that can be run: {one_line(error)}") from error

    def run(image: np.ndarray) -> Mapping[str, np.ndarray]:
        try:
            return graph.run(image)
        except Exception as error:  # of classes that the runtimes do not share
            raise ValueError(f"{printable(file)} cannot be run on a frame: {one_line(error)}") from error

    return graph._replace(run=run)


def _read_onnx(file: str) -> Graph:
    require_extra("onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of classes that onnxruntime does not share
        raise ValueError(str(error)) from error
    given = session.get_inputs()[0]
    names = [each.name for each in session.get_outputs()]
    shape = tuple(each if isinstance(each, int) else None for each in given.shape)
    return Graph(
        lambda image: dict(zip(names, session.run(None, {given.name: image}), strict=True)),
        shape,
        {"tensor(uint8)": "uint8", "tensor(float16)": "float16"}.get(given.type, "float32"),
    )


def _read_openvino(file: str) -> Graph:
    try:
        import openvino
    except ImportError as error:
        raise ValueError("it needs the package openvino; allowed without it: an .onnx file") from error
    compiled = openvino.compile_model(file, "CPU")
    given = compiled.inputs[0]
    shape = tuple(each.get_length() if each.is_static else None for each in given.partial_shape)

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled([image])
        return {" ".join(each.names): found[each] for each in compiled.outputs}

    return Graph(run, shape, "uint8" if given.element_type.to_string() in ("u8", "uint8_t") else "float32")


def _output(outputs: Mapping[str, np.ndarray], part: str) -> np.ndarray:
    """The one output with `part` in its name."""
    found = [value for name, value in outputs.items() if part in name]
    if len(found) != 1:
        raise ValueError(f"the detector's outputs are {', '.join(outputs)}; allowed: one with {part!r}")
    return np.asarray(found[0])


def _only(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The one output (1, A, B)."""
    shapes = {name: np.shape(value) for name, value in outputs.items()}
    (first, *rest) = outputs.values()
    if rest or np.ndim(first) != 3 or len(first) != 1:
        raise ValueError(f"the detector's outputs are {shapes}; allowed: one of three dimensions (1, A, B)")
    return first


# ---- kinds


def ssd(graph: Graph) -> Detector:
    """Graphs of TensorFlow's object detection: RGB (1, H, W, 3) to boxes, classes and scores by name.

    Boxes (1, N, 4) are top, left, bottom, right, as parts of the frame.
    """
    height, width = _input_size(graph, graph.shape[1:3], default=(300, 300))

    def detect(image: np.ndarray) -> Detections:
        resized = _resize(image, (height, width)).astype(graph.dtype)
        outputs = graph.run(resized[None])
        boxes, scores, classes = (_output(outputs, f"detection_{name}")[0] for name in _SSD)
        sides = np.array([image.shape[1], image.shape[0]] * 2)
        return Detections(boxes[:, [1, 0, 3, 2]] * sides, scores, classes.astype(np.int64))

    return detect


def yolo(graph: Graph) -> Detector:
    """Graphs of YOLO 8 and later: RGB (1, 3, H, W) of 0 to 1 to (1, 4 + classes, N), or end to end (1, N, 6).

    Boxes are the x and y of centres, width and height in pixels of the input, in which the frame keeps its
    shape; end to end left, top, right, bottom, score, class. Classes count from 0.
    """
    height, width = _input_size(graph, graph.shape[2:4], default=(640, 640))

    def detect(image: np.ndarray) -> Detections:
        scale = min(height / image.shape[0], width / image.shape[1])
        rows, columns = (round(side * scale) for side in image.shape[:2])
        top, left = (height - rows) // 2, (width - columns) // 2
        filled = np.full((height, width, 3), _GREY, dtype=np.uint8)
        filled[top : top + rows, left : left + columns] = _resize(image, (rows, columns))
        pixels = (filled.transpose(2, 0, 1)[None] / 255).astype(graph.dtype)
        found = _only(graph.run(pixels)).astype(np.float32)
        if found.shape[2] == _END_TO_END:  # doubles are dropped in it
            boxes = (found[0, :, :4] - [left, top] * 2) / scale
            return Detections(boxes, found[0, :, 4], found[0, :, 5].astype(np.int64))
        centres, sizes, scores = np.split(found[0].T, [2, 4], axis=1)
        if not scores.size or scores.max() > 1:
            raise ValueError(
                f"the detector's output is {found.shape} with scores up to {scores.max(initial=0):g}; "
                "allowed: (1, 4 + classes, N) with scores of 0 to 1, or (1, N, 6)"
            )
        boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
        boxes = (boxes - [left, top] * 2) / scale
        return _best(boxes, scores.max(axis=1), scores.argmax(axis=1))

    return detect


def exported(graph: Graph) -> Detector:
    """Graphs of torchvision's detection models: RGB (3, H, W) of 0 to 1 to boxes, labels and scores."""

    def detect(image: np.ndarray) -> Detections:
        outputs = graph.run((image.transpose(2, 0, 1) / 255).astype(graph.dtype))
        # An export names them as it likes: numbers and dimensions tell them apart.
        found = {(value.dtype.kind, value.ndim): value for value in map(np.asarray, outputs.values())}
        if not found.keys() >= {("f", 2), ("f", 1), ("i", 1)}:
            raise ValueError(f"the outputs are {', '.join(outputs)}; allowed: boxes, labels and scores")
        return Detections(found["f", 2], found["f", 1], found["i", 1])

    return detect


def _torchvision(name: str, file: str) -> Detector:
    """A detection model of torchvision with the weights in a file."""
    state = read_state_dict(file)
    heads = [value for key, value in state.items() if key.endswith("cls_score.weight")]
    classes = {"num_classes": len(heads[0])} if name.startswith("fasterrcnn") and heads else {}
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, **classes).eval()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{printable(file)} is no {name}: {one_line(error)}") from error

    def detect(image: np.ndarray) -> Detections:
        with torch.inference_mode():
            pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
            found: dict[str, Any] = model([pixels])[0]
        return Detections(*(found[key].numpy() for key in ("boxes", "scores", "labels")))

    return detect


KINDS: Mapping[str, Callable[[Graph], Detector]] = {"ssd": ssd, "yolo": yolo, "exported": exported}


def _input_size(graph: Graph, sides: Sequence[int | None], *, default: tuple[int, int]) -> tuple[int, int]:
    if len(graph.shape) != 4:
        raise ValueError(f"the detector's input has {len(graph.shape)} dimensions; allowed: 4")
    height, width = (side or usual for side, usual in zip(sides, default, strict=True))
    return height, width


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def _best(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Detections:
    """Without boxes that overlap a better one of their class."""
    tensors = (torch.from_numpy(np.ascontiguousarray(each)) for each in (boxes, scores, classes))
    boxes_, scores_, classes_ = tensors
    kept = batched_nms(boxes_.float(), scores_, classes_, _OVERLAP).numpy()
    return Detections(boxes[kept], scores[kept], classes[kept])
