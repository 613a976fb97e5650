"""Files of exported graphs: ONNX in three precisions and torch's own programs, compared with their models.

A file that does not give the model's features is not kept.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.export.graphs import Graph, published_graph
from model.reid import ReIDModel
from utils.export_forms import FORMS, OPSET, OPSETS, Form
from utils.files import write_atomically
from utils.package import require_extra
from utils.text import one_line

BATCHES = (1, 3, 16)  # of the comparison
# Rankings decide about int8: see `write_graph`.
LEAST_COSINE = {"fp32": 0.9999, "fp16": 0.999, "program": 0.9999, "checkpoint": 0.9999}
MOST_DIFFERENCE = {"fp32": 1e-3, "program": 1e-3, "checkpoint": 1e-3}
_OLDEST_TORCH = "2.7"
_BATCH = "batch_size"
_MOST_IMAGES = 2**16  # in a batch; torch before 2.10 or so needs a bound
_MOST_BYTES = 2**31  # of a protobuf message
_WITHOUT_LIMIT = 2**40
_logger = logging.getLogger("transreid.model")


class Parity(NamedTuple):
    """The least cosine of a row with the model's, and the largest difference over the largest value."""

    cosine: float
    difference: float


def export_onnx(model: ReIDModel, path: str | Path, size: tuple[int, int], opset: int = OPSET) -> Parity:
    """Write a re-id model as CLIP-ReID models are published: `input` (batch_size, 3, H, W), normalised.

    `size` is (H, W); the output `features` (batch_size, D) is the test feature before L2. With a table of
    side information, ids (batch_size,) int64 are further inputs, `camera_label` or `view_label` or both. The
    model stays as it is. Checks and errors are those of `write_graph`.
    """
    return write_graph(published_graph(model, size), path, opset=opset)


def write_graph(
    graph: Graph,
    path: str | Path,
    form: Form = "fp32",
    *,
    opset: int = OPSET,
    accept: Callable[[Path], object] | None = None,
) -> Parity:
    """Write a graph as a file of a form in `FORMS`, whole or not at all; returns how near it is to the model.

    The batch of the file is dynamic. It is kept if random inputs of each size in `BATCHES` give the model's
    features: with `LEAST_COSINE` and `MOST_DIFFERENCE`; int8 only has to run, as rankings decide about it.
    `accept` gets the path of the finished file before it is kept, and raises what speaks against it.

    Raises ValueError for another form or opset, inputs that the model refuses, a torch that is too old,
    weights that one file cannot hold, a fixed batch, a file of other features, or where nothing becomes int8;
    MissingExtra without the packages of `[onnx]`; OSError where no file can be written.
    """
    _require_exportable(graph, form, opset)
    graph.module(*graph.draw(2))  # raises what the model says about inputs, before the exporter does
    program = _export(graph)
    found: list[Parity] = []

    def write(beside: Path) -> None:
        if form == "program":
            found.append(_write_program(graph, program, beside))
        else:
            found.append(_write_onnx(graph, program, beside, form, opset))
        require_parity(found[0], form, path)
        if accept is not None:
            accept(beside)

    write_atomically(path, write)
    size = Path(path).stat().st_size / 1e6
    _logger.info("%s: %s, %.1f MB, cosine %.6f, difference %.1e", path, form, size, *found[0])
    return found[0]


def measure_parity(graph: Graph, run: Callable[[Sequence[Tensor]], np.ndarray]) -> Parity:
    """Compare features (B, D) that `run` makes of a graph's inputs with the model's, for `BATCHES`."""
    cosine, difference = 1.0, 0.0
    for count in BATCHES:
        inputs = graph.draw(count)
        with torch.no_grad():
            want = graph.module(*inputs).double().numpy()
        got = np.asarray(run(inputs), dtype=np.float64)
        if got.shape != want.shape:
            raise ValueError(f"features of a batch of {count} are {got.shape}; allowed: {want.shape}")
        norms = np.linalg.norm(got, axis=1) * np.linalg.norm(want, axis=1)
        with np.errstate(invalid="ignore"):
            cosines = (got * want).sum(axis=1) / np.maximum(norms, 1e-30)
            largest = np.abs(got - want).max() / np.abs(want).max()
        # min and max of Python would pass over nan.
        cosine = float(np.minimum(cosine, cosines.min()))
        difference = float(np.maximum(difference, largest))
    return Parity(cosine, difference)


def onnx_runner(path: str | Path, threads: int = 0) -> Callable[[Sequence[Tensor]], np.ndarray]:
    """The features (B, D) of a graph's inputs by onnxruntime on the CPU; 0 threads: one for each core.

    Raises MissingExtra without it.
    """
    require_extra("onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> np.ndarray:
        given = {name: each.numpy() for name, each in zip(names, inputs, strict=True)}
        return np.asarray(session.run(None, given)[0])

    return run


def _require_exportable(graph: Graph, form: str, opset: int) -> None:
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; allowed: {', '.join(map(repr, FORMS))}")
    if opset not in OPSETS:  # the exporter writes 18 for older ones
        raise ValueError(f"opset is {opset}; allowed: {OPSETS[0]} to {OPSETS[-1]}")
    if torch.__version__ < _OLDEST_TORCH:
        raise ValueError(f"torch is {torch.__version__}; allowed for an export: {_OLDEST_TORCH} or newer")
    if form != "program":
        require_extra("onnx")
        weights = sum(each.nbytes for each in graph.module.state_dict().values())
        if weights >= _MOST_BYTES:
            raise ValueError(
                f"the model has {weights / 1e9:.2f} GB of weights; allowed in one ONNX file: less than "
                f"{_MOST_BYTES / 1e9:.2f} GB"
            )


def _export(graph: Graph) -> torch.export.ExportedProgram:
    with torch.no_grad(), _quiet():
        try:
            # Not by way of torch.onnx.export, which fixes the batch in silence where this fails.
            program = torch.export.export(
                graph.module, graph.draw(2), dynamic_shapes=_dynamic(graph), strict=False
            )
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"the model cannot be exported for batches of any size: {one_line(error)}"
            ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names the folders of this machine
    return program


def _dynamic(graph: Graph) -> tuple[dict[int, Any], ...]:
    batch = torch.export.Dim(_BATCH, min=1, max=_MOST_IMAGES)
    return tuple({0: batch} for _ in graph.inputs)


def _write_program(graph: Graph, program: torch.export.ExportedProgram, path: Path) -> Parity:
    facts: dict[str, Any] = _properties(graph)
    with open(path, "wb") as file:  # given a path, torch warns of a suffix that is not .pt2
        torch.export.save(program, file, extra_files=facts)
    with open(path, "rb") as file:
        module = torch.export.load(file).module()

    def run(inputs: Sequence[Tensor]) -> np.ndarray:
        with torch.no_grad():
            return module(*inputs).numpy()

    return measure_parity(graph, run)


def _write_onnx(
    graph: Graph, program: torch.export.ExportedProgram, path: Path, form: str, opset: int
) -> Parity:
    import onnx

    content = _to_onnx(graph, program, opset)
    if form == "fp16":
        content = _to_fp16(content)
    elif form == "int8":
        content = _to_int8(content, path)
    onnx.helper.set_model_props(content, _properties(graph))
    onnx.checker.check_model(content)
    onnx.save(content, str(path))
    _require_dynamic(content)
    return measure_parity(graph, onnx_runner(path))


def _to_onnx(graph: Graph, program: torch.export.ExportedProgram, opset: int) -> Any:
    """The ModelProto of a program, in which each linear layer reads its weight as it is stored."""
    from onnxscript.optimizer import optimize

    with torch.no_grad(), _quiet():
        exported: Any = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=list(graph.inputs),
            output_names=["features"],
            dynamic_shapes=_dynamic(graph),
            verbose=False,
        )
        # By default the weights of wide layers stay unfolded, and int8 would pass over them.
        optimize(exported.model, input_size_limit=_WITHOUT_LIMIT, output_size_limit=_WITHOUT_LIMIT)
        return exported.model_proto


def _to_fp16(content: Any) -> Any:
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    # Squares of features above 256 are infinite in float16.
    kept = [*float16.DEFAULT_OP_BLOCK_LIST, "ReduceL2"]
    with _quiet():
        content = float16.convert_float_to_float16(content, keep_io_types=True, op_block_list=kept)
    OnnxModel(content).topological_sort()  # it puts the casts of inputs last
    return content


def _to_int8(content: Any, path: Path) -> Any:
    """Linear layers in 8 bits, by way of a file at `path`. Raises ValueError if the graph has none."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    stored = {each.name for each in content.graph.initializer}
    products = (node for node in content.graph.node if node.op_type in ("MatMul", "Gemm"))
    linear = sum(node.input[1] in stored for node in products)  # those of attention have no weights
    del content.graph.value_info[:]  # wrong as soon as onnxruntime transposes a weight
    with _quiet():
        quantize_dynamic(
            content, str(path), op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8
        )
    content = onnx.load(str(path))
    done = sum(node.op_type == "MatMulInteger" for node in content.graph.node)
    if not done:
        raise ValueError("form is 'int8', but the model has no linear layers; allowed: 'fp32', 'fp16'")
    floats = sum(node.op_type == "Conv" for node in content.graph.node)
    _logger.info("%d of %d linear layers are int8; %d convolutions stay float32", done, linear, floats)
    return content


def _properties(graph: Graph) -> dict[str, str]:
    return {f"clipreid.{name}": text for name, text in graph.facts.items()}


def _require_dynamic(content: Any) -> None:
    for each in content.graph.input:
        first = each.type.tensor_type.shape.dim[0]
        if first.dim_param != _BATCH:
            raise ValueError(f"the batch of {each.name} is {first.dim_value}; allowed: any, as {_BATCH}")


def require_parity(parity: Parity, form: str, path: str | Path) -> None:
    """Raise ValueError where a file of a form, or a client's 'checkpoint', is too far from its model."""
    least, most = LEAST_COSINE.get(form, -np.inf), MOST_DIFFERENCE.get(form, np.inf)
    if not np.isfinite(parity).all() or parity.cosine < least or parity.difference > most:
        limits = [f"cosine {least} or more"] if form in LEAST_COSINE else ["finite numbers"]
        limits += [f"difference {most} or less"] if form in MOST_DIFFERENCE else []
        raise ValueError(
            f"{path} ({form}) has other features than the model: cosine {parity.cosine:.6f}, difference "
            f"{parity.difference:.1e}; allowed: {', '.join(limits)}; no file was written"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on their own work; errors still come."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
