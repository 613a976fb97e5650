"""Answers of a gallery as a page with pictures, by the template of tools/rank.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

from retrieval import Hit, Metadata
from tools.gallery_commands.searching import Answer
from tools.ranking.report import DISTANCE, Album, Mark, Picture, Report, Row, thumbnail
from tools.ranking.report import Hit as Shown
from utils.text import isolated, printable

_MEASURE = DISTANCE._replace(match="within the threshold", miss="beyond the threshold")


def write_answers(answers: Sequence[Answer], address: str, folder: Path) -> Path:
    """Write ranking.html, in which entries beyond the threshold are marked; returns its path."""
    from tools.ranking.pictures import write_page  # needs the packages of [plots]

    album = Album()
    rows = tuple(_row(number, answer, album) for number, answer in enumerate(answers))
    thresholds = sorted({answer.threshold for answer in answers if answer.threshold is not None})
    line = f"threshold {' and '.join(f'{each:.4g}' for each in thresholds)}" if thresholds else "no threshold"
    facts = (f"{len(answers)} question{'s' * (len(answers) != 1)}", line)
    page = Report(printable(address), facts, _MEASURE, "", rows, footer="")
    write_page(page, folder / "ranking.html")
    return folder / "ranking.html"


def _row(number: int, answer: Answer, album: Album) -> Row:
    if answer.kind == "sentence":
        asked = Picture("", "", None, "", "", "", ("", ""), printable(answer.question))
    elif answer.entry is not None:
        asked = _picture(answer.entry.key, answer.entry.metadata, album)._replace(identity="")
    else:
        shown = _picture(answer.question, Metadata(path=answer.question), album)
        asked = shown._replace(identity="", camera="", numbers=("", ""))
    if answer.threshold is None:
        summary = f"the {answer.within} nearest" if answer.hits else "no entry meets the conditions"
    else:
        summary = f"{answer.within} within the threshold" if answer.within else "nobody within the threshold"
    hits = (_hit(rank, hit, answer, album) for rank, hit in enumerate(answer.hits, start=1))
    return Row(number, asked, None, "", summary, tuple(hits))


def _hit(rank: int, hit: Hit, answer: Answer, album: Album) -> Shown:
    mark: Mark = "unknown" if answer.threshold is None else "match" if rank <= answer.within else "miss"
    return Shown(
        rank, mark, f"{max(hit.distance, 0.0):.3f}", _MEASURE, _picture(hit.key, hit.metadata, album)
    )


def _picture(key: str, facts: Metadata, album: Album) -> Picture:
    image = album.read(facts.path) if facts.path else None
    reason = album.unreadable.get(facts.path, "") if facts.path else "no path is known"
    identity = printable(facts.identity) or "?"
    when = "" if facts.time is None else facts.time.astimezone().strftime("%Y-%m-%d %H:%M")
    seen = " · ".join(map(isolated, filter(None, (identity, printable(facts.camera), when))))
    return Picture(
        printable(facts.path or key),
        printable(PurePath(facts.path).name or key),
        None if image is None else thumbnail(image),
        printable(reason),
        identity,
        seen,
        (identity, seen),
    )
