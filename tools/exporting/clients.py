"""Programs of others that run exported models: what they do to images, and the files that they want beside.

docs/clients.md has the facts of each. A client is one more row in `CLIENTS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tools.exporting.writing import Exported, Settings, export_images
from utils.export_forms import FORMS, PIXELS
from utils.files import write_atomically

if TYPE_CHECKING:
    from model import CheckpointInfo, DualModel, Parity, ReIDModel, TextSearchInfo

Info: TypeAlias = "CheckpointInfo | TextSearchInfo"
_BATCH = 32  # images that DeepStream and Triton run at once
_TRACKS = 100  # pictures that DeepStream keeps of each track
# What boxmot 21 builds for a name with clip in it; with veri or vehicleid in it, for images of 256 x 256.
_BOXMOT21: dict[str, object] = {
    "kind": "ViT",
    "width": 768,
    "layers": (12,),
    "patch": (16, 16),
    "stride": (16, 16),
    "size": (256, 128),
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "neck": "after",
    "deep_prompts": None,
    "adapter_width": 0,
}
# A name with one of these in it means another model to boxmot 21.
_BOXMOT21_FIRST = ("resnet50", "resnet101", "mlfn", "hacnn", "mobilenetv2", "osnet", "lmbn")
# A checkpoint for boxmot has the names of these parts in training only.
_TRAINING_PARTS = ("classifier", "prompt_learner.", "text_encoder.")


def _as_given(path: Path) -> Path:
    return path


def _check_form(path: Path, settings: Settings) -> None:
    settings.of(path)


def _nothing(file: Exported) -> Mapping[Path, str]:
    return {}


@dataclass(frozen=True)
class Client:
    """What a program takes. The row '' stands for programs without one: they get what is asked for.

    Args:
        pixels: what it can do to images, of `PIXELS`; the first by default.
        forms: forms of files that it reads, of `FORMS`; the first by default.
        raw: whether features as trained are of use to it.
        cameras: whether it can pass cameras and views beside images.
        texts: whether it has a use for the text side of a text search model.
        place: the path of the model, from the one that the user gives.
        check: raises ValueError for settings and a path that do not go together.
        write: writes the model of the given facts at a path.
        beside: texts of further files by path, for a model that was written.
        hint: one line for the user about the file at `{path}`.
    """

    pixels: tuple[str, ...] = PIXELS
    forms: tuple[str, ...] = FORMS
    raw: bool = False
    cameras: bool = False
    texts: bool = False
    place: Callable[[Path], Path] = _as_given
    check: Callable[[Path, Settings], object] = _check_form
    write: Callable[[ReIDModel | DualModel, Info, Path, Settings], Exported] = export_images
    beside: Callable[[Exported], Mapping[Path, str]] = _nothing
    hint: str = ""

    def settings(self, name: str, settings: Settings) -> Settings:
        """`settings` with what is left open, '', as this client has it.

        Raises ValueError where they ask for what the client, called `name`, does not take.
        """
        form = settings.form or self.forms[0] * (self.forms != FORMS)
        settings = replace(settings, form=form, pixels=settings.pixels or self.pixels[0])
        choices = {"pixels": (settings.pixels, self.pixels), "form": (settings.form or "fp32", self.forms)}
        for setting, (value, allowed) in choices.items():
            if value not in allowed:
                raise ValueError(f"`{setting}` is {value}; allowed for {name}: {', '.join(allowed)}")
        for setting in ("raw", "cameras"):
            if getattr(settings, setting) and not getattr(self, setting):
                raise ValueError(f"`{setting}` is given; allowed for {name}: without it")
        return settings


def write_beside(client: Client, file: Exported) -> list[Path]:
    """Write the files that a client wants beside a model, each whole or not at all; returns their paths."""
    texts = client.beside(file)
    for path, text in texts.items():
        write_atomically(path, lambda beside, text=text: beside.write_text(text, encoding="utf-8"))
    return list(texts)


# ---- boxmot up to version 21


def _write_boxmot21(model: ReIDModel | DualModel, info: Info, path: Path, settings: Settings) -> Exported:
    """A checkpoint of the image side, with the mean row of side information in the class token.

    boxmot builds the published ViT-B/16 whatever the file has, and leaves out in silence what does not fit.
    """
    import torch

    from model import (
        CheckpointInfo,
        ReIDModel,
        bake_mean_row,
        image_graph,
        load_reid_model,
        measure_parity,
        require_parity,
    )

    if not (isinstance(model, ReIDModel) and isinstance(info, CheckpointInfo)):
        raise ValueError("the model is one of text search; allowed for boxmot21: a re-id model")
    _require_boxmot21(info, path)
    graph = image_graph(model, info, "normalised", raw=True)
    state = {k: v for k, v in bake_mean_row(model).state_dict().items() if not k.startswith(_TRAINING_PARTS)}
    facts = {name: getattr(info, name) for name in ("name", "stride", "mean", "std", "resize")}
    found: list[Parity] = []

    def write(beside: Path) -> None:
        with open(beside, "wb") as file:
            torch.save(state, file)
        again, read = load_reid_model(str(beside), info.size, neck_feature="after", **facts)
        module = image_graph(again, read, "normalised", raw=True).module
        found.append(measure_parity(graph, lambda inputs: module(*inputs).numpy()))
        require_parity(found[0], "checkpoint", path)

    write_atomically(path, write)
    settings = replace(settings, form="checkpoint", pixels="normalised", raw=True)
    return Exported(path, settings, found[0], {"images": (3, *info.size)}, info.width + info.projected_width)


def _check_boxmot21(path: Path, settings: Settings) -> None:
    others = [name for name in _BOXMOT21_FIRST if name in path.name]
    if not path.name.startswith("clip_") or path.suffix != ".pt" or others:
        raise ValueError(f"`path` is {path}; allowed for boxmot21: a name like clip_market1501.pt")
    for given in ("data", "opset", "map_drop", "cosine_only"):
        if getattr(settings, given) not in (None, False):
            raise ValueError(f"`{given}` is given; allowed for boxmot21: none, it is for ONNX files")


def _require_boxmot21(info: CheckpointInfo, path: Path) -> None:
    vehicles = "veri" in path.name or "vehicleid" in path.name
    wanted = _BOXMOT21 | ({"size": (256, 256)} if vehicles else {})
    for name, value in wanted.items():
        found = getattr(info, name)
        if found != value:
            raise ValueError(f"the model's {name} is {found}; allowed for boxmot21 and {path.name}: {value}")


# ---- Ultralytics


def _ultralytics_tracker(file: Exported) -> Mapping[Path, str]:
    settings: Mapping[str, object] = {
        "tracker_type": "botsort",
        "track_high_thresh": 0.25,
        "track_low_thresh": 0.1,
        "new_track_thresh": 0.25,
        "track_buffer": 30,
        "match_thresh": 0.8,
        "fuse_score": True,
        "gmc_method": "sparseOptFlow",
        "proximity_thresh": 0.5,
        "appearance_thresh": 0.8,
        "with_reid": True,
        "model": str(file.path.resolve()),
    }
    lines = ["# BoT-SORT with our features; all but the last two are Ultralytics' defaults.", ""]
    lines += [f"{name}: {json.dumps(value)}" for name, value in settings.items()]
    return {file.path.with_name(f"botsort_{file.path.stem}.yaml"): "\n".join([*lines, ""])}


# ---- DeepStream


def _deepstream_section(file: Exported) -> Mapping[Path, str]:
    (shape,) = file.inputs.values()
    settings: Mapping[str, object] = {
        "reidType": 2,
        "batchSize": _BATCH,
        "workspaceSize": 1000,
        "reidFeatureSize": file.width,
        "reidHistorySize": _TRACKS,
        "inferDims": list(shape),
        "networkMode": 0,
        "inputOrder": 0,
        "colorFormat": 0,
        "offsets": [0.0, 0.0, 0.0],
        "netScaleFactor": 1 / 255,
        "keepAspc": 0,
        "addFeatureNormalization": int(file.settings.raw),
        "onnxFile": str(file.path.resolve()),
        "modelEngineFile": f"{file.path.resolve()}_b{_BATCH}_gpu0_fp32.engine",
    }
    lines = [
        "%YAML:1.0",
        "# A section for the ll-config-file of nvtracker, next to your BaseConfig, TargetManagement, ...",
        "# reidType 2 joins tracks again (enableReAssoc in TrajectoryManagement), 1 is for NvDeepSORT.",
        "# networkMode 1 builds the engine in float16.",
        "ReID:",
        *(f"  {name}: {json.dumps(value)}" for name, value in settings.items()),
        "",
    ]
    return {file.path.with_name(f"{file.path.stem}_nvtracker.yml"): "\n".join(lines)}


# ---- Triton


def _in_repository(path: Path) -> Path:
    return path / "1" / "model.onnx"


def _triton_config(file: Exported) -> Mapping[Path, str]:
    folder = file.path.parents[1]
    inputs = [_triton_input(name, shape) for name, shape in file.inputs.items()]
    lines = [
        f"name: {json.dumps(folder.name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {_BATCH}",
        "input [",
        ",\n".join(f"  {{ {each} }}" for each in inputs),
        "]",
        f'output [ {{ name: "features", data_type: TYPE_FP32, dims: [ {file.width} ] }} ]',
        "dynamic_batching { max_queue_delay_microseconds: 2000 }",
        "",
    ]
    return {folder / "config.pbtxt": "\n".join(lines)}


def _triton_input(name: str, shape: tuple[int, ...]) -> str:
    if not shape:  # one number of each image; Triton knows no input without dimensions
        return f'name: "{name}", data_type: TYPE_INT64, dims: [ 1 ], reshape: {{ shape: [ ] }}'
    dims = ", ".join(map(str, shape))
    if len(shape) == 1:
        return f'name: "{name}", data_type: TYPE_INT64, dims: [ {dims} ]'
    return f'name: "{name}", data_type: TYPE_FP32, format: FORMAT_NCHW, dims: [ {dims} ]'


CLIENTS: Mapping[str, Client] = {
    "": Client(raw=True, cameras=True, texts=True),
    "boxmot": Client(
        pixels=("imagenet",),
        forms=("fp32", "fp16", "int8"),
        hint="boxmot 22 or newer: boxmot track --reid {path}",
    ),
    "boxmot21": Client(
        pixels=("normalised",),
        forms=("fp32",),
        check=_check_boxmot21,
        write=_write_boxmot21,
        hint="boxmot up to 21: boxmot track --reid {path}",
    ),
    "ultralytics": Client(
        pixels=("unit",),
        forms=("fp32", "int8"),
        beside=_ultralytics_tracker,
        hint="Ultralytics: YOLO(...).track(source, tracker=the file beside it)",
    ),
    "deepstream": Client(
        pixels=("unit",),
        forms=("fp32",),
        raw=True,
        beside=_deepstream_section,
        hint="DeepStream: copy the section into the ll-config-file of nvtracker",
    ),
    "triton": Client(
        forms=("fp32", "fp16", "int8"),
        raw=True,
        cameras=True,
        texts=True,
        place=_in_repository,
        beside=_triton_config,
        hint="Triton: tritonserver --model-repository, the folder above the model's",
    ),
}
