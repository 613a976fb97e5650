"""A file of what a tracker has to send: nothing is lost while its server is away, or the run is."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt

from utils.files import append_line
from utils.untrusted.forms import Form, parse_json
from utils.untrusted.plain import open_plain


def _is_inside(name: str) -> str:
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise ValueError("a file in the run's folder")
    return name


class Line(Form):
    """Numbers of an epoch or of a step of a stage, by name; or a file, relative to the run's folder."""

    stage: str
    step: NonNegativeInt = 0
    time: NonNegativeFloat = 0.0
    metrics: dict[str, float] = Field(default_factory=dict)
    file: Annotated[str, AfterValidator(_is_inside)] = ""


class Queue:
    """Lines in a file, in order, of which places are known by their number of bytes.

    It begins empty, or where `rewind` says: what the file held behind that is cut when it is first used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin: int | None = 0

    @property
    def length(self) -> int:
        """The place behind the last line. Raises OSError."""
        if self._begin is not None and self.path.exists() and self.path.stat().st_size > self._begin:
            os.truncate(self.path, self._begin)
        self._begin = None
        return self.path.stat().st_size if self.path.exists() else 0

    def rewind(self, length: int) -> None:
        """Keep the lines before this place; a file that is shorter is kept as it is."""
        self._begin = length

    def append(self, line: Line) -> None:
        """Add a line, onto the disk. Raises OSError, and ValueError for what is no plain file."""
        _ = self.length
        append_line(self.path, line.model_dump_json(exclude_defaults=True))

    def read(self, place: int) -> Iterator[tuple[Line, int]]:
        """The lines from a place on, each with the place behind it.

        Raises OSError, and ValueError for a line of another form.
        """
        if place >= self.length:
            return
        with open_plain(self.path) as file:
            file.seek(place)
            for text in file:
                yield parse_json(text, Line, str(self.path)), file.tell()
