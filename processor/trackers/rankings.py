"""Pictures of rankings: queries and their nearest gallery items, right and wrong ones framed."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw, ImageOps
from pydantic import NonNegativeInt

from datasets import read_image
from processor.engine.trackers import Record
from processor.trackers.board import Board
from retrieval import FeatureSet, RetrievalTask, rank_gallery
from utils.files import write_atomically
from utils.untrusted.forms import Form, check_form

QUERIES, TOP = 8, 10
_CELL, _FRAME, _GAP, _LINE = (96, 128), 4, 6, 16  # pixels; the size is width and height
_GROUND, _INK = "white", "black"
_QUERY, _UNKNOWN = "#1a56db", "#8a8f98"
_MARKS = {True: "#0f9d58", False: "#d93025", None: _UNKNOWN}
_LETTERS = 14  # of a text on a line of a cell


class _Shown(Form):
    stage: str
    epoch: NonNegativeInt


class RankingPictures:
    """A tracker that draws rankings after evaluations, and lets others show them.

    `see` is called in an evaluation, before the record of its epoch comes. The picture is the file
    `rankings_{stage}_{epoch}.png`.

    Args:
        folder: where the pictures are written; it is created.
        every: epochs from a picture to the next one, at least.
        boards: they show the pictures, and have got the record before this tracker gets it.
    """

    name = "pictures"

    def __init__(self, folder: Path, every: int, boards: Sequence[Board]) -> None:
        self.folder, self.every, self.boards = folder, every, boards
        self._task: RetrievalTask | None = None
        self._shown: _Shown | None = None

    def see(self, task: RetrievalTask) -> None:
        """Keep the task of an evaluation, on the features that are compared, until the next record."""
        self._task = task

    def start(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Nothing: a picture is of an evaluation."""

    def log(self, record: Record) -> None:
        """Draw and show, if the record is of an evaluation and a picture is due. Raises OSError."""
        task, self._task = self._task, None
        now = check_form({"stage": record["stage"], "epoch": record["epoch"]}, _Shown, self.name)
        before = self._shown.epoch if self._shown and self._shown.stage == now.stage else 0
        if task is None or now.epoch - before < self.every:
            return
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"rankings_{now.stage}_{now.epoch}.png"
        write_atomically(path, lambda beside: draw_rankings(task).save(beside, "PNG"))
        self._shown = now
        for board in self.boards:
            board.show("rankings", path, record)

    def log_step(self, record: Record) -> None:
        """Nothing: a picture is of an evaluation."""

    def state(self) -> dict[str, Any]:
        """Stage and epoch of the last picture; empty before the first."""
        return {} if self._shown is None else self._shown.model_dump()

    def rewind(self, state: Mapping[str, Any]) -> None:
        """Return to the last picture of that time."""
        self._shown = check_form(dict(state), _Shown, self.name) if state else None

    def finish(self, status: str) -> None:
        """Nothing: the last picture is the end."""


class _Cell(NamedTuple):
    """A picture or a text in a frame."""

    picture: Image.Image | None
    text: str
    colour: str


def draw_rankings(task: RetrievalTask, queries: int = QUERIES, top: int = TOP) -> Image.Image:
    """A row for each of some queries of the first trial, spread over all: the query and its nearest items.

    The frame of a match is green, of another identity red, of an unknown one grey. Texts are drawn as text.
    Distances are those of the task's features, without re-ranking. Raises ValueError for a picture that
    cannot be read.
    """
    query, gallery, rule = next(iter(task))
    count = min(queries, len(query))
    rows = torch.linspace(0, len(query) - 1, count).round().long().tolist()
    upright = task.info.get("orientation") == "exif"  # as the model saw them
    wide, high = (side + 2 * _FRAME + _GAP for side in _CELL)
    sheet = Image.new("RGB", (_GAP + (1 + top) * wide, _GAP + count * (high + _LINE)), _GROUND)
    drawing = ImageDraw.Draw(sheet)
    for number, ranking in enumerate(rank_gallery(query, gallery, rows, top, rule=rule)):
        left, down = _GAP, _GAP + number * (high + _LINE)
        cells = [_cell(task, query, ranking.query, _QUERY, upright)]
        cells += [_cell(task, gallery, hit.row, _MARKS[hit.match], upright) for hit in ranking.images]
        precision = ranking.average_precision
        score = "no match in the gallery" if precision is None else f"AP {precision:.1%}"
        drawing.text((left, down), f"query {ranking.query}, {score}", _INK)
        for place, cell in enumerate(cells):
            _paste(sheet, drawing, cell, (left + place * wide, down + _LINE))
    return sheet


def _cell(task: RetrievalTask, items: FeatureSet, row: int, colour: str, upright: bool) -> _Cell:
    text = task.names.text(items.keys[row])
    return _Cell(None if text else read_image(items.paths[row], upright=upright), text, colour)


def _paste(sheet: Image.Image, drawing: ImageDraw.ImageDraw, cell: _Cell, place: tuple[int, int]) -> None:
    left, top = place
    right, bottom = left + _CELL[0] + 2 * _FRAME, top + _CELL[1] + 2 * _FRAME
    drawing.rectangle((left, top, right - 1, bottom - 1), _GROUND, cell.colour, _FRAME)
    inside = (left + _FRAME, top + _FRAME)
    if cell.picture is None:
        letters = cell.text.encode("latin-1", "replace").decode("latin-1")  # others are in no font of Pillow
        lines = textwrap.wrap(letters, _LETTERS)
        most = _CELL[1] // _LINE
        drawing.multiline_text(inside, "\n".join(lines[:most]), _INK)
        return
    sheet.paste(ImageOps.pad(cell.picture, _CELL, color=_GROUND), inside)
