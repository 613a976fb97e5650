"""Writers of a report of rankings: a self-contained HTML page and one PNG."""

import base64
import io
import statistics
import textwrap
from collections.abc import Iterator
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from config.arguments import say
from tools.ranking.fitting import LINE, cropped, fit_text, folded
from tools.ranking.fonts import Fonts, find_fonts, language, quiet_fonts
from tools.ranking.report import Album, Hit, Picture, Report, Row
from utils.files import write_atomically
from utils.pages import fill_page
from utils.text import has_leftward

PICTURE_ROWS = 20  # rows of the PNG at most: more are too small on any screen or slide
SIGNS = {"match": "✓", "miss": "✗", "unknown": "?"}
_TEMPLATE = Path(__file__).with_name("page.html.j2")
_COLOURS = {"match": "#0f9d58", "miss": "#d93025", "unknown": "#8a8f98", "query": "#1a56db"}
_INK, _FAINT, _GROUND, _EMPTY = "#1f2328", "#667085", "#eef0f3", "#d5d8de"
_ASPECT = (0.4, 2.0)  # narrowest and widest cell, width by height

# Inches of the PNG.
_CELL_AREA = 1.1
_TEXT_WIDTH, _TEXT_MARGIN = 1.4, 0.06
_GAP, _MARGIN, _GROUP_GAP = 0.12, 0.3, 0.22
_TITLE, _HEADING, _LABEL, _CAPTION, _LEGEND = 0.62, 0.26, 0.18, 0.32, 0.2
_CAPTION_LINE, _NAME_LINES = 0.13, 3  # the latter at most
_ROW_GAP = 0.2
_LEAST_WIDTH = 7.5
_SUMMARY = 4.3  # at its longest
_LETTER, _CAPTION_LETTER = 0.095, 0.058  # of a file name, of a caption
_DPI, _MOST_PIXELS = 200, 16000
# They keep a number left of an Arabic name, and a line of an Arabic sentence that begins with a number.
_FROM_LEFT, _FROM_RIGHT = "\N{LEFT-TO-RIGHT MARK}", "\N{RIGHT-TO-LEFT MARK}"


def publish(report: Report, album: Album, folder: Path) -> None:
    """Write ranking.html and ranking.png, and print what was written and what could not be shown."""
    page, picture = folder / "ranking.html", folder / "ranking.png"
    write_page(report, page)
    fonts = write_picture(report, picture)
    count = len(report.rows)
    left_out = f" (the first {PICTURE_ROWS} of {count} queries)" if count > PICTURE_ROWS else ""
    say("%s", page)
    say("%s%s", picture, left_out)
    if fonts.missing:
        say(
            "%s: %s has numbers or boxes in place of such texts, %s has the texts",
            fonts.describe_missing(),
            picture.name,
            page,
        )
    if album.unreadable:
        path, reason = next(iter(album.unreadable.items()))
        counts = len(album.unreadable), len(album.seen)
        say("%d of %d images could not be read, e.g. %s: %s", *counts, path, reason)


def write_page(report: Report, path: Path) -> None:
    """Write the page: it embeds its pictures, fetches nothing, runs no script and escapes all texts."""
    filters = {"data_uri": _data_uri, "language": language}
    page = fill_page(_TEMPLATE, filters, report=report, signs=SIGNS, aspect=_aspect(report))
    write_atomically(path, lambda beside: beside.write_text(page, encoding="utf-8"))


def write_picture(report: Report, path: Path) -> Fonts:
    """Write the PNG, of the report's first PICTURE_ROWS rows; the fonts tell which letters it lacks.

    Identities and cameras with such a letter are drawn as numbers, names with one are left out, and in texts
    that are queries or hits a box stands for it.
    """
    rows = report.rows[:PICTURE_ROWS]
    aspect = _aspect(report)
    fonts = find_fonts(
        [_FROM_LEFT, _FROM_RIGHT, report.title, *(text for row in rows for text in _texts(row))]
    )
    with quiet_fonts(), rc_context({"font.family": list(fonts.families)}):
        sheet = _Sheet(report, fonts, (_CELL_AREA * aspect) ** 0.5, (_CELL_AREA / aspect) ** 0.5)
        for number, row in enumerate(rows):
            sheet.draw(row, _TITLE + _MARGIN / 2 + number * sheet.row_height)
        write_atomically(path, sheet.save)
    return fonts


def _texts(row: Row) -> Iterator[str]:
    """The texts of a row that come from a data set."""
    for picture in _pictures(row):
        yield from (picture.name, picture.text, picture.identity, picture.camera, picture.reason)


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _aspect(report: Report) -> float:
    """Width by height of a cell: the median of the images, clamped to `_ASPECT`."""
    low, high = _ASPECT
    shapes = [image.width / image.height for image in _images(report)]
    return min(max(statistics.median(shapes), low), high) if shapes else 0.5


def _images(report: Report) -> Iterator[Image.Image]:
    for row in report.rows:
        for picture in _pictures(row):
            if picture.image is not None:
                yield picture.image


def _pictures(row: Row) -> tuple[Picture, ...]:
    return row.picture, *(hit.picture for hit in row.hits)


class _Sheet:
    """The PNG: one axes over the whole figure in inches, y pointing down."""

    def __init__(self, report: Report, fonts: Fonts, cell_width: float, cell_height: float) -> None:
        rows = report.rows[:PICTURE_ROWS]
        self.report, self.fonts = report, fonts
        self.cell_height = cell_height
        # Of the query, and of the hits.
        self.cell_widths = [
            _TEXT_WIDTH if any(map(has_text, rows)) else cell_width
            for has_text in (lambda row: row.picture.text, lambda row: row.finds_texts)
        ]
        lines = max((len(self._origin(hit.picture)) for row in rows for hit in row.hits), default=1)
        caption = _CAPTION + max(0, lines - 1) * _CAPTION_LINE
        self.row_height = _HEADING + _LABEL + cell_height + caption + _ROW_GAP
        self.lead = 2 if report.attention else 1  # cells before the hits
        cells = self.lead + max((len(row.hits) for row in rows), default=0)
        self.width = max(_LEAST_WIDTH, self._left(cells) - _GAP + _MARGIN)
        self.height = _TITLE + len(rows) * self.row_height + _LEGEND + _MARGIN
        self.figure = Figure(figsize=(self.width, self.height), facecolor="white")
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        self.axes.axis("off")
        title = cropped(fonts.drawable(report.title, "Rankings"), int(self.width * 8))
        self._text(_MARGIN, 0.34, title, size=13, weight="bold", va="center")
        self._text(_MARGIN, 0.58, " · ".join(report.facts), size=8.5, color=_FAINT, va="center")
        self._legend()

    def save(self, path: Path) -> None:
        """Write the file, with fewer dots per inch where it would be too large to open."""
        dots = min(_DPI, _MOST_PIXELS / max(self.width, self.height))
        self.figure.savefig(path, dpi=dots, format="png")

    def draw(self, row: Row, top: float) -> None:
        """One query and its hits below `top`."""
        heading = top + _HEADING / 2
        room = int((self.width - 2 * _MARGIN - _SUMMARY) / _LETTER)
        name = cropped(f"{row.number}{_FROM_LEFT}  {self.fonts.drawable(row.picture.name, '')}", room)
        self._text(_MARGIN, heading, name, size=9, weight="bold", va="center")
        summary = " · ".join(filter(None, (row.score, row.summary)))
        self._text(self.width - _MARGIN, heading, summary, size=8.5, color=_FAINT, va="center", ha="right")
        top += _HEADING + _LABEL
        labels = tuple(filter(None, self._labels(row.picture)))
        self._cell(0, top, row.picture, _COLOURS["query"], "query", labels)
        if self.report.attention:
            seen = row.picture._replace(image=row.attention)
            self._cell(1, top, seen, _COLOURS["query"], "attention", (self.report.attention,))
        for hit in row.hits:
            self._hit(hit, top)

    def _hit(self, hit: Hit, top: float) -> None:
        label = f"{hit.rank} {SIGNS[hit.mark]}"
        captions = (hit.value, *self._origin(hit.picture))
        self._cell(self.lead + hit.rank - 1, top, hit.picture, _COLOURS[hit.mark], label, captions)

    def _cell(
        self, column: int, top: float, picture: Picture, colour: str, label: str, captions: tuple[str, ...]
    ) -> None:
        width, height = self.cell_widths[column >= self.lead], self.cell_height
        left = self._left(column)
        middle = left + width / 2
        ground = _EMPTY if picture.image is None and not picture.text else _GROUND
        self.axes.add_patch(Rectangle((left, top), width, height, facecolor=ground, edgecolor="none"))
        if picture.text:
            self._fill(picture.text, left, top, width)
        elif picture.image is None:
            reason = self.fonts.drawable(picture.reason, "cannot be read")
            reason = textwrap.fill(textwrap.shorten(reason, 80), width=max(8, int(width * 15)))
            self._text(middle, top + height / 2, reason, size=5.5, color=_FAINT, ha="center", va="center")
        else:
            scale = min(width / picture.image.width, height / picture.image.height)
            across, down = picture.image.width * scale / 2, picture.image.height * scale / 2
            centre = top + height / 2
            self.axes.imshow(
                picture.image,
                extent=(middle - across, middle + across, centre + down, centre - down),
                interpolation="lanczos",
                aspect="auto",
                zorder=2,  # images lie below patches otherwise
            )
        self.axes.add_patch(
            Rectangle((left, top), width, height, facecolor="none", edgecolor=colour, linewidth=2.2, zorder=3)
        )
        self._text(middle, top - 0.05, label, size=8, weight="bold", color=colour, ha="center", va="bottom")
        for line, caption in enumerate(captions):
            below = top + height + _CAPTION_LINE * (line + 1)
            caption = cropped(caption, int((width + _GAP) / _CAPTION_LETTER))
            self._text(
                middle, below, caption, size=7, color=_FAINT if line else _INK, ha="center", va="center"
            )

    def _left(self, column: int) -> float:
        """The left edge of a cell; columns of hits follow those of the query."""
        asked, hits = min(column, self.lead), max(0, column - self.lead)
        group = _GROUP_GAP if column >= self.lead else 0
        return _MARGIN + asked * (self.cell_widths[0] + _GAP) + hits * (self.cell_widths[1] + _GAP) + group

    def _fill(self, text: str, left: float, top: float, width: float) -> None:
        """Write a text into a cell, as much as there is room for."""
        width, height = width - 2 * _TEXT_MARGIN, self.cell_height - 2 * _TEXT_MARGIN
        fitted = fit_text(self.fonts.boxed(text), width, height)
        left, side = (left + width, "right") if fitted.leftward else (left, "left")
        mark = _FROM_RIGHT if fitted.leftward else _FROM_LEFT if has_leftward(text) else ""
        for number, line in enumerate(fitted.lines):
            baseline = top + _TEXT_MARGIN + (number * LINE + 1) * fitted.size / 72
            # A mark at both ends: each line has the direction of the whole.
            self._text(left + _TEXT_MARGIN, baseline, f"{mark}{line}{mark}", size=fitted.size, ha=side)

    def _origin(self, picture: Picture) -> tuple[str, ...]:
        """The origin, a name on lines; where the fonts lack a letter, the number of a camera, no name."""
        if picture.has_camera:
            return (self.fonts.drawable(picture.origin, picture.numbers[1]),)
        room = int((self.cell_widths[1] + _GAP) / _CAPTION_LETTER)
        # A column less, so that long names next to each other do not touch.
        return folded(self.fonts.drawable(picture.origin, ""), room - 1, _NAME_LINES)

    def _labels(self, picture: Picture) -> tuple[str, str]:
        """Identity and camera, as numbers where the fonts lack a letter."""
        identity, camera = picture.numbers
        return self.fonts.drawable(picture.identity, identity), self.fonts.drawable(picture.camera, camera)

    def _legend(self) -> None:
        y = self.height - _MARGIN / 2 - _LEGEND / 2
        for x, mark, meaning in (
            (0, "match", self.report.measure.match),
            (1.2, "miss", self.report.measure.miss),
            (2.48, "unknown", "not known"),
        ):
            text = f"{SIGNS[mark]} {meaning}"
            self._text(_MARGIN + x, y, text, size=8, weight="bold", color=_COLOURS[mark], va="center")
        numbers = f"numbers: {self.report.measure.full_name}"
        self._text(self.width - _MARGIN, y, numbers, size=8, color=_FAINT, va="center", ha="right")

    def _text(self, x: float, y: float, text: str, **style: object) -> None:
        # File names may hold dollars, which would start a formula.
        self.axes.text(x, y, text, **({"color": _INK, "parse_math": False} | style))
