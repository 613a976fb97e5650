"""A model as a file for other programs: its settings, the checks of the file, and the facts about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from utils.export_forms import FORMS, OPSET

if TYPE_CHECKING:
    from datasets import CaptionDataset, ReIDDataset
    from model import CheckpointInfo, DualModel, Graph, Parity, ReIDModel, TextSearchInfo
    from utils.export_forms import Form, Pixels

MAP_DROP = 0.5  # points
INT8_COSINE = 0.99  # where no rankings are compared
_SUFFIX = {True: ".pt2", False: ".onnx"}  # of programs, of other forms


@dataclass(frozen=True)
class Settings:
    """Settings of an exported file.

    Args:
        form: one of `FORMS`; '' is 'program' for a file that ends with .pt2, else 'fp32'.
        pixels: one of `PIXELS`, what the client does to images, see `image_graph`.
        raw: features as trained, without L2 normalisation.
        cameras: cameras and views are further inputs, see `image_graph`.
        opset: of ONNX; None is `OPSET`. A program has none.
        data: a test split, on which mAP by the file is compared with mAP by the model; int8 needs it.
        map_drop: points of mAP that the file may lose on `data`; None is `MAP_DROP`.
        cosine_only: keep int8 without `data`, if the cosines on random images are `INT8_COSINE` or more.
    """

    form: str = ""
    pixels: str = "unit"
    raw: bool = False
    cameras: bool = False
    opset: int | None = None
    data: ReIDDataset | CaptionDataset | None = None
    map_drop: float | None = None
    cosine_only: bool = False

    def of(self, path: str | Path) -> Settings:
        """These settings with the form of a file. Raises ValueError where they do not go together."""
        suffix = Path(path).suffix
        form = self.form or ("program" if suffix == ".pt2" else "fp32")
        if form not in FORMS:
            raise ValueError(f"form is {form!r}; allowed: {', '.join(map(repr, FORMS))}")
        is_program = form == "program"
        if suffix != _SUFFIX[is_program]:
            raise ValueError(
                f"`path` is {path}; allowed for {form}: a name that ends with {_SUFFIX[is_program]}"
            )
        if is_program and (self.opset is not None or self.data is not None):
            given = "opset" if self.opset is not None else "data"
            raise ValueError(f"`{given}` is given; allowed for program: none, it is for ONNX files")
        if self.map_drop is not None and (self.data is None or not self.map_drop >= 0):
            raise ValueError(f"`map_drop` is {self.map_drop}; allowed: 0 or more, with `data`")
        if self.cosine_only and (form != "int8" or self.data is not None):
            raise ValueError("`cosine_only` is given; allowed: for int8 without `data`")
        if form == "int8" and self.data is None and not self.cosine_only:
            raise ValueError(
                "int8 needs a test split in `data`, on which mAP is compared; allowed without: `cosine_only`"
            )
        return replace(self, form=form)


class Exported(NamedTuple):
    """A file that was written, how near it is to the model, and what it takes and gives.

    `inputs` are shapes by name, without the batch; `width` is that of the features. `maps` are mAP, 0 to 1,
    by the model and by the file, where they were compared.
    """

    path: Path
    settings: Settings
    parity: Parity
    inputs: Mapping[str, tuple[int, ...]]
    width: int
    maps: tuple[float, float] | None = None


def export_images(
    model: ReIDModel | DualModel, info: CheckpointInfo | TextSearchInfo, path: str | Path, settings: Settings
) -> Exported:
    """Write a model from images to features. With `settings.cameras` it must have all rows of its table.

    Raises ValueError for settings that do not go together and a file that loses too much, and as
    `image_graph` and `write_graph` do. No file is left then.
    """
    from model import image_graph

    settings = settings.of(path)
    pixels = cast("Pixels", settings.pixels)
    graph = image_graph(model, info, pixels, raw=settings.raw, sides=settings.cameras)
    return _write(graph, model, info, Path(path), settings)


def export_texts(model: DualModel, info: TextSearchInfo, path: str | Path, settings: Settings) -> Exported:
    """Write a text search model from tokens to features; `pixels` and `cameras` do not matter.

    Raises as `export_images` does.
    """
    from model import text_graph

    settings = settings.of(path)
    return _write(text_graph(model, info, raw=settings.raw), model, info, Path(path), settings)


def with_all_rows(info: CheckpointInfo) -> ReIDModel:
    """The model of a file again, with all rows of its table of cameras and views."""
    from model import load_reid_model

    return load_reid_model(
        info.path,
        info.size,
        name=info.name or None,
        stride=info.stride,
        sie_scale=info.sie_scale if info.side_rows else None,
        neck_feature=info.neck,
        mean=info.mean,
        std=info.std,
        resize=info.resize,
    )[0]


def _write(
    graph: Graph,
    model: ReIDModel | DualModel,
    info: CheckpointInfo | TextSearchInfo,
    path: Path,
    settings: Settings,
) -> Exported:
    from model import measure_parity, onnx_runner, write_graph
    from tools.exporting.ranking import map_by

    maps: list[float] = []

    def compare(file: Path) -> None:
        run = onnx_runner(file)
        if settings.data is None:
            _require_cosine(measure_parity(graph, run).cosine, path)
        else:
            measure = map_by(graph, model, info, settings.data)
            maps.extend([measure(None), measure(run)])
            _require_map(maps, path, settings)

    accept = compare if settings.cosine_only or settings.data is not None else None
    form = cast("Form", settings.form)
    parity = write_graph(
        graph, path, form, opset=OPSET if settings.opset is None else settings.opset, accept=accept
    )
    drawn = graph.draw(1)
    inputs = {name: tuple(each.shape[1:]) for name, each in zip(graph.inputs, drawn, strict=True)}
    width = graph.module(*drawn).shape[1]
    return Exported(path, settings, parity, inputs, width, (maps[0], maps[1]) if maps else None)


def _require_cosine(cosine: float, path: Path) -> None:
    if cosine < INT8_COSINE:
        raise ValueError(
            f"{path} (int8) has other features than the model: cosine {cosine:.4f}; allowed: {INT8_COSINE} "
            "or more; no file was written"
        )


def _require_map(maps: list[float], path: Path, settings: Settings) -> None:
    by_model, by_file = (100 * each for each in maps)
    most = MAP_DROP if settings.map_drop is None else settings.map_drop
    if by_model - by_file > most:
        raise ValueError(
            f"{path} ({settings.form}) has mAP {by_file:.2f}, the model {by_model:.2f}; allowed: a loss of "
            f"{most} points; no file was written"
        )
