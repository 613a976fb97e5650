"""Ways to run an exported file: onnxruntime, and OpenVINO where it is installed."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model import Form, Graph, Parity, onnx_runner, write_graph

Run = Callable[[Sequence[Tensor]], np.ndarray]
ONNX_FORMS: tuple[Form, ...] = ("fp32", "fp16", "int8")
TORCH = "torch"
# By name: the form of the file, and OpenVINO's hint; None is onnxruntime.
RUNNERS: dict[str, tuple[Form, Mapping[str, Any] | None]] = {
    "onnxruntime": ("fp32", None),
    "OpenVINO, f32": ("fp32", {"INFERENCE_PRECISION_HINT": "f32"}),
    "OpenVINO, its default": ("fp32", {}),
    "onnxruntime, fp16": ("fp16", None),
    "onnxruntime, int8": ("int8", None),
}


def write_forms(graph: Graph, folder: Path) -> tuple[dict[Form, Path], dict[Form, Parity]]:
    """The graph as ONNX in each precision, and the parity that each export ends with."""
    paths = {form: folder / f"{graph.facts['kind']}_{form}.onnx" for form in ONNX_FORMS}
    return paths, {form: write_graph(graph, path, form) for form, path in paths.items()}


def make_runners(graph: Graph, paths: Mapping[Form, Path], threads: int) -> dict[str, Run]:
    """The model in torch and all runners that are installed; torch keeps the threads that it has."""

    def in_torch(inputs: Sequence[Tensor]) -> np.ndarray:
        with torch.no_grad():
            return graph.module(*inputs).numpy()

    found: dict[str, Run] = {TORCH: in_torch}
    for name, (form, hints) in RUNNERS.items():
        if hints is None:
            found[name] = onnx_runner(paths[form], threads)
        elif importlib.util.find_spec("openvino"):
            found[name] = _openvino_runner(paths[form], {"INFERENCE_NUM_THREADS": threads, **hints})
    return found


def _openvino_runner(path: Path, settings: Mapping[str, Any]) -> Run:
    import openvino

    model = openvino.Core().compile_model(str(path), "CPU", dict(settings))
    return partial(_run_openvino, model)


def _run_openvino(model: Any, inputs: Sequence[Tensor]) -> np.ndarray:
    return np.array(model([each.numpy() for each in inputs])[0])
