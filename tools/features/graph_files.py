"""ONNX files of images to features: what they want, and running them by onnxruntime."""

import argparse
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, Strict

from utils.package import require_extra
from utils.text import one_line
from utils.untrusted.forms import Form, parse_json
from utils.untrusted.plain import open_plain

_FIXED = ("model", "size", "stride", "neck", "sie_coe")  # options about what is in the graph
# Of an input of each kind: the mean and std by which the client normalises; None are the model's.
_CLIENT = {
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "normalised": None,
}
_SIDES = ("camera_label", "view_label")
_UNKNOWN = -1  # as an id of a camera or view it means the mean row
_KEY = "clipreid."

_AboveZero = Annotated[float, Field(gt=0)]
_RGB = Annotated[tuple[float, float, float], Strict(False)]
_Pair = Annotated[tuple[int, int], Strict(False)]


class _Card(Form):
    """The facts in a graph's model card that its user needs."""

    name: str = Field(default="", max_length=200)
    size: _Pair
    stride: _Pair | None = None
    mean: _RGB
    std: Annotated[tuple[_AboveZero, _AboveZero, _AboveZero], Strict(False)]
    resize: Literal["bilinear", "bicubic"]
    neck: Literal["before", "after"] | None = None


class GraphFile(NamedTuple):
    """A graph of images, ready to run.

    `size` (H, W) and `resize` prepare images; `mean` and `std` normalise pixels of 0 to 1 before they go in.
    `info` is for a feature file, `description` for the log. `sides` are its inputs of cameras and views.
    """

    session: Any
    image: str
    sides: tuple[str, ...]
    size: tuple[int, int]
    resize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    info: Mapping[str, Any]
    description: str

    def run(self, images: np.ndarray) -> np.ndarray:
        """Features (B, D) float32 of RGB images (B, H, W, 3) uint8; ValueError where the graph fails."""
        mean, std = (np.array(each, dtype=np.float32) for each in (self.mean, self.std))
        pixels = (images.astype(np.float32) / np.float32(255) - mean) / std
        inputs = {self.image: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}
        inputs |= {name: np.full(len(images), _UNKNOWN, dtype=np.int64) for name in self.sides}
        try:
            features = np.asarray(self.session.run(None, inputs)[0])
        except Exception as error:  # its errors have no common type
            raise ValueError(f"the graph cannot be run: {one_line(error)}") from error
        if features.ndim != 2 or len(features) != len(images):
            raise ValueError(
                f"the graph gives features {features.shape} for {len(images)} images; allowed: a row for each"
            )
        return features.astype(np.float32, copy=False)


def open_graph(args: argparse.Namespace) -> GraphFile:
    """The graph in `--weight`, an ONNX file, by the model card in it and the options.

    Without a card, `--mean`, `--std` and `--resize` have to say how images are prepared. Raises MissingExtra
    without onnxruntime, FileNotFoundError, and ValueError for a file that is no such graph, and for options
    that have no meaning with it.
    """
    _require_options(args)
    session = _open(args.weight, args.device)
    facts = {
        name.removeprefix(_KEY): text
        for name, text in session.get_modelmeta().custom_metadata_map.items()
        if name.startswith(_KEY)
    }
    if facts.get("kind", "image") != "image":
        raise ValueError(f"{args.weight} is a graph of kind {facts['kind']!r}; allowed: 'image'")
    image, sides, size = _inputs(session, args.weight)
    card = _card(args, facts, size)
    kind = facts.get("input", "normalised")
    if kind not in _CLIENT:
        raise ValueError(f"{args.weight}: its input is {kind!r}; allowed: {', '.join(map(repr, _CLIENT))}")
    mean, std = _CLIENT[kind] or (card.mean, card.std)
    info = {
        "model": card.name,
        "size": size,
        "stride": card.stride,
        "neck_feature": card.neck,
        "pixel_mean": card.mean,
        "pixel_std": card.std,
        "resize": card.resize,
        "precision": "onnx",
    }
    provider = session.get_providers()[0].removesuffix("ExecutionProvider")
    by = "the model card in it" if "card" in facts else "--mean, --std and --resize, as it has no model card"
    description = (
        f"{card.name or 'a graph'}, {size[0]} x {size[1]} pixels, {card.resize}, input {kind}, "
        f"features {facts.get('output', 'as they come')}, by {by}; onnxruntime on {provider}"
    )
    if sides:
        description += f"; {' and '.join(sides)} unknown, which is the mean row"
    return GraphFile(session, image, sides, size, card.resize, mean, std, info, description)


def _require_options(args: argparse.Namespace) -> None:
    """Raise ValueError for options about what an exported graph has fixed."""
    for option in _FIXED:
        if getattr(args, option) is not None:
            raise ValueError(
                f"--{option} is given; allowed: with a checkpoint, an .onnx file has it fixed; export again"
            )
    if args.amp != "off":
        raise ValueError(f"--amp is {args.amp}; allowed with an .onnx file: off, its precision is its own")
    if args.std and not all(value > 0 for value in args.std):
        raise ValueError(f"--std is {args.std}; allowed: numbers above 0")


def _open(path: str, device: str) -> Any:
    """A session of onnxruntime. Raises ValueError for a file that is none."""
    require_extra("onnx", "onnxruntime")
    import onnxruntime

    with open_plain(path):  # raises for what is missing, a pipe or a folder
        pass
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(path, options, providers=[*providers, "CPUExecutionProvider"])
    except Exception as error:  # its errors have no common type
        raise ValueError(f"{path} is no ONNX file that can be run: {one_line(error)}") from error


def _inputs(session: Any, path: str) -> tuple[str, tuple[str, ...], tuple[int, int]]:
    """Names of the images and of ids, and the size (H, W) of images."""
    first, *rest = session.get_inputs() or [None]
    if first is None:
        raise ValueError(f"{path} is a graph without inputs; allowed: images (batch, 3, H, W)")
    batch, *shape = first.shape if len(first.shape) == 4 else (1, None)
    if (
        first.type != "tensor(float)"
        or shape[0] != 3
        or not all(isinstance(side, int) for side in shape)
        or isinstance(batch, int)
    ):
        raise ValueError(
            f"{path}: its first input, {first.name}, is {first.shape} of {first.type}; allowed: images "
            "(batch, 3, H, W) of tensor(float), with any batch and a fixed size"
        )
    for each in rest:
        if each.name not in _SIDES or each.type != "tensor(int64)":
            raise ValueError(
                f"{path}: input {each.name} of {each.type} is not known here; allowed: {', '.join(_SIDES)} "
                "of tensor(int64)"
            )
    return first.name, tuple(each.name for each in rest), (shape[1], shape[2])


def _card(args: argparse.Namespace, facts: Mapping[str, str], size: tuple[int, int]) -> _Card:
    """The card in the graph, with the `--resize` that is given; without one, what the options say."""
    given = {name: getattr(args, name) for name in ("mean", "std", "resize")}
    if "card" not in facts:
        missing = [f"--{name}" for name, value in given.items() if value is None]
        if missing:
            raise ValueError(
                f"{args.weight} has no model card (clipreid.card); needed: {', '.join(missing)}, or a file "
                "of tools/export.py"
            )
        return _Card(size=size, **given)
    card = parse_json(facts["card"], _Card, f"{args.weight} has a wrong model card")
    for name in ("mean", "std"):
        if given[name] is not None:
            raise ValueError(f"--{name} is given; allowed: without a model card in the .onnx file")
    if card.size != size:
        raise ValueError(
            f"{args.weight}: its model card says {card.size[0]} x {card.size[1]} pixels, its input has "
            f"{size[0]} x {size[1]}; allowed: one size"
        )
    return card.model_copy(update={"resize": given["resize"]}) if given["resize"] else card
