"""The content of a page of rankings as values: pictures, texts and marks. `pictures.py` draws them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal, NamedTuple

from PIL import Image

from utils.labels import NO_CAMERA, NO_PID
from utils.text import isolated, printable

if TYPE_CHECKING:
    from retrieval import FeatureSet, LabelNames, RankedImage, Ranking

THUMBNAIL = 256  # longest side in pixels: sharp on a page and in print, and few kB
Mark = Literal["match", "miss", "unknown"]
# An image -> the same under its attention map.
PaintAttention = Callable[[Image.Image], Image.Image]


class Measure(NamedTuple):
    """A number below ranked items: its name, its full name, and how it follows from a distance.

    `match` and `miss` say what the marks of the items mean.
    """

    name: str
    full_name: str
    of: Callable[[float], float] = float
    match: str = "right identity"
    miss: str = "wrong identity"


DISTANCE = Measure("distance", "squared Euclidean distance")
RERANKED = Measure("distance", "k-reciprocal distance")
# Of rows of norm 1, from their squared Euclidean distance.
SIMILARITY = Measure("similarity", "cosine similarity", lambda distance: 1 - distance / 2)


class Picture(NamedTuple):
    """An item as shown: an image, or a text; `name` is short, and '' for a text whose key it is.

    `image` is None for a text, and where it could not be read, for the `reason`. `numbers` are pid and camid,
    for pictures whose fonts lack a letter of identity or camera. A text has no camera.
    """

    path: str
    name: str
    image: Image.Image | None
    reason: str
    identity: str
    camera: str
    numbers: tuple[str, str]
    text: str = ""

    @property
    def origin(self) -> str:
        """The camera, or the name where the camera is not known."""
        return self.camera if self.has_camera else self.name

    @property
    def has_camera(self) -> bool:
        """Whether the camera is known."""
        return self.numbers[1] not in ("", f"cam {NO_CAMERA}")


class Hit(NamedTuple):
    """One ranked item; `rank` counts from 1, `value` is that of the `measure`."""

    rank: int
    mark: Mark
    value: str
    measure: Measure
    picture: Picture

    @property
    def description(self) -> str:
        """A description of the picture, for those who cannot see it."""
        meanings = {"match": self.measure.match, "miss": self.measure.miss, "unknown": "identity not known"}
        picture = self.picture
        identity, camera, name = map(isolated, (picture.identity, picture.camera, picture.name))
        return (
            f"Rank {self.rank}: {meanings[self.mark]} ({identity}, {camera}), "
            f"{self.measure.name} {self.value}, {name}"
        )


@dataclass(frozen=True)
class Row:
    """One query and its hits; `number` is its row among the queries, `score` its average precision."""

    number: int
    picture: Picture
    attention: Image.Image | None
    score: str
    summary: str
    hits: tuple[Hit, ...]

    @property
    def finds_texts(self) -> bool:
        """Whether a hit is a text."""
        return any(hit.picture.text for hit in self.hits)


@dataclass(frozen=True)
class Report:
    """A page: its title, one line of facts, the measure of the hits, the method of attention maps or ''."""

    title: str
    facts: tuple[str, ...]
    measure: Measure
    attention: str
    rows: tuple[Row, ...]
    footer: str = "Gallery images that the trial's rule removes are not ranked."


class Album:
    """Reads the images of a feature file and remembers which it could not read, and why; has their labels.

    `root` is a folder for the paths in the file, where the path is searched, then its ends, the longest first
    (`/old/query/a.jpg`: root/old/query/a.jpg, root/query/a.jpg, root/a.jpg). None takes paths as they are.
    With `upright` images are turned as their EXIF orientation says.
    """

    def __init__(
        self, root: Path | None = None, names: LabelNames | None = None, *, upright: bool = True
    ) -> None:
        from retrieval import LabelNames

        self.root = root
        self.names = names or LabelNames()
        self.upright = upright
        self.seen: set[str] = set()
        self.unreadable: dict[str, str] = {}

    def read(self, path: str) -> Image.Image | None:
        """The RGB image, or None; then `unreadable[path]` is the reason."""
        from datasets import read_image

        self.seen.add(path)
        found = self._locate(path)
        try:
            return read_image(found, upright=self.upright)
        except (OSError, ValueError) as error:
            # The reason is shown in place of the picture, without room for the path.
            self.unreadable[path] = str(error).removeprefix(f"{printable(found)}: ")
            return None

    def _locate(self, path: str) -> str:
        if self.root is None:
            return path
        parts = [part for part in PurePath(path).parts if part not in ("..", PurePath(path).anchor)]
        ends = [str(self.root.joinpath(*parts[start:])) for start in range(len(parts))]
        return next(filter(os.path.isfile, ends), str(self.root / path))


def make_rows(
    query: FeatureSet,
    gallery: FeatureSet,
    rankings: Sequence[Ranking],
    album: Album,
    measure: Measure = DISTANCE,
    paint_attention: PaintAttention | None = None,
) -> tuple[Row, ...]:
    """The rows of a report: one for each ranking, with its images and texts."""
    return tuple(_row(query, gallery, ranking, album, measure, paint_attention) for ranking in rankings)


def _row(
    query: FeatureSet,
    gallery: FeatureSet,
    ranking: Ranking,
    album: Album,
    measure: Measure,
    paint_attention: PaintAttention | None,
) -> Row:
    image = _image(query, ranking.query, album)
    attention = None
    if paint_attention is not None and image is not None:
        attention = thumbnail(paint_attention(image))
    precision = ranking.average_precision
    return Row(
        number=ranking.query,
        picture=_picture(query, ranking.query, image, album),
        attention=attention,
        score="" if precision is None else f"AP {precision:.1%}",
        summary=_summary(ranking, known=int(query.pids[ranking.query]) != NO_PID),
        hits=tuple(
            Hit(
                rank,
                _mark(ranked),
                _number(measure.of(ranked.distance)),
                measure,
                _picture(gallery, ranked.row, _image(gallery, ranked.row, album), album),
            )
            for rank, ranked in enumerate(ranking.images, start=1)
        ),
    )


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def count_items(items: FeatureSet) -> str:
    """The numbers of images and texts in words, as '20 images'."""
    texts = sum(bool(items.names.text(key)) for key in items.keys)
    counts = ((len(items) - texts, "image"), (texts, "text"))
    words = [f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts if count]
    return " and ".join(words) or "0 images"


def _image(items: FeatureSet, row: int, album: Album) -> Image.Image | None:
    """None for a text, or where it cannot be read."""
    return None if album.names.text(items.keys[row]) else album.read(items.paths[row])


def _picture(images: FeatureSet, row: int, image: Image.Image | None, album: Album) -> Picture:
    path, pid, camid = images.paths[row], int(images.pids[row]), int(images.camids[row])
    text = album.names.text(images.keys[row])
    if text:
        name = printable(images.keys[row])
        name = "" if name == text else PurePath(name).name
        identity = "" if pid == NO_PID else f"id {album.names.identity(pid)}"
        return Picture(printable(path), name, None, "", identity, "", (f"id {pid}", ""), text)
    return Picture(
        printable(path),
        printable(PurePath(images.keys[row]).name or path),
        None if image is None else thumbnail(image),
        printable(album.unreadable.get(path, "")),
        f"id {album.names.identity(pid)}",
        f"cam {album.names.camera(camid)}",
        (f"id {pid}", f"cam {camid}"),
    )


def thumbnail(image: Image.Image) -> Image.Image:
    """The image, scaled down where a side is longer than THUMBNAIL."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return small


def _mark(ranked: RankedImage) -> Mark:
    if ranked.match is None:
        return "unknown"
    return "match" if ranked.match else "miss"


def _summary(ranking: Ranking, *, known: bool) -> str:
    if not known:
        return "identity not known"
    if not ranking.num_matches:
        return "no match in the gallery"
    matches = "1 match" if ranking.num_matches == 1 else f"{ranking.num_matches} matches"
    return f"first match at rank {ranking.first_rank}, {matches} in the gallery"
