"""HTML of the page: rankings, the line of the threshold, one picture at large, a timeline.

Names, cameras and sentences are texts of others: everything passes `text`.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from utils.text import few, isolated, printable, shortened

if TYPE_CHECKING:
    from retrieval import Entry, Hit, Metadata
    from service.finder import Answer

Shown = Callable[[str], str]  # from a key to the address of its picture, '' where there is none
UNNAMED, NO_CAMERA, NO_TIME = "no name", "no camera", "no time"
PAUSE = timedelta(minutes=10)  # between two visits of one camera
_LENS = (
    '<svg viewBox="0 0 24 24" width="18" height="18" fill="none" stroke="currentColor" stroke-width="2.4" '
    'stroke-linecap="round" aria-hidden="true"><circle cx="10.5" cy="10.5" r="6.5"/>'
    '<path d="m20 20-4.6-4.6"/></svg>'
)
_LONGEST = 120  # letters of a name on a card


def text(words: object) -> str:
    """A text of others, as HTML."""
    return html.escape(shortened(words, _LONGEST))


def attribute(words: object) -> str:
    """A text of others, whole, as the value of an attribute."""
    return html.escape(str(words))


def when(time: datetime | None) -> str:
    """A time, to the minute, in its zone."""
    return NO_TIME if time is None else f"{time:%Y-%m-%d %H:%M}"


def number(distance: float) -> str:
    """A distance to three places, without zeros at its end."""
    return f"{distance:.3f}".rstrip("0").rstrip(".")


def message(words: object, kind: str = "problem") -> str:
    """One line for the user: a 'problem' or 'done'."""
    return f'<p class="message {kind}" role="alert">{html.escape(printable(words))}</p>'


def added(facts: Metadata) -> str:
    """One line for the user: what was added."""
    name, camera = isolated(text(facts.identity or UNNAMED)), isolated(text(facts.camera or NO_CAMERA))
    return f'<p class="message done" role="alert">Added: {name}, {camera}</p>'


def head(entries: int, names: Collection[str], cameras: Collection[str]) -> str:
    """The page's title, and how much there is."""
    named, known = (sum(map(bool, each)) for each in (names, cameras))
    return f"<h1>Gallery</h1><p>{entries:,} pictures · {named:,} names · {known:,} cameras</p>"


def welcome(*, takes_sentences: bool) -> str:
    """The words in place of a ranking before the first question."""
    ways = "Choose a picture, or describe somebody" if takes_sentences else "Choose a picture"
    return _title("open", "Who is this?", f"{ways}: the nearest pictures of the gallery come here.")


def no_name() -> str:
    """The words in place of a timeline before a name is chosen."""
    return _title("open", "Where was somebody?", "Choose a name: its pictures stand here by time and camera.")


def _title(kind: str, words: object, below: str, beside: str = "") -> str:
    """Large letters with a line below, which can be printed; `kind` is their colour."""
    return (
        f'<div class="verdict {kind}"><div><h2 dir="auto">{text(words)}</h2>'
        f"<p>{html.escape(below)}</p></div>{beside}</div>"
    )


def ranking(answer: Answer, shown: Shown, *, may_add: bool) -> str:
    """The hits of an answer as cards, nearest first, with the threshold's line."""
    within = [hit for hit in answer.hits if answer.accepts(hit)]
    cards = [_card(place, hit, shown(hit.key), answer) for place, hit in enumerate(answer.hits, start=1)]
    if answer.threshold is not None and answer.hits:
        cards.insert(len(within), _line(answer.threshold, len(within)))
    return f'{_verdict(answer, within, may_add=may_add)}<div class="hits">{"".join(cards)}</div>'


def _verdict(answer: Answer, within: Sequence[Hit], *, may_add: bool) -> str:
    """Who it is, in large letters, and what that rests on."""
    keep = '<button type="button" class="quiet" data-act="keep">Add this picture with a name</button>'
    if not answer.hits:
        kind, title, reason = "nobody", "Nobody", "No picture of the gallery passes these filters."
    elif answer.threshold is None:
        kind, title = "open", "Nearest first"
        reason = "There is no threshold to say where the same person ends; the filters take one."
    elif answer.nobody:
        kind, title = "nobody", "Nobody"
        reason = (
            f"The nearest picture is at distance {answer.hits[0].distance:.3f}, "
            f"beyond the threshold of {number(answer.threshold)}."
        )
    else:
        nearest = within[0].metadata.identity
        kind, title = "same", nearest or "Seen before, without a name"
        limit = number(answer.threshold)
        reason = f"{len(within)} of {len(answer.hits)} pictures are within the threshold of {limit}"
        names = dict.fromkeys(hit.metadata.identity for hit in within)
        others = [isolated(printable(name)) for name in names if name and name != nearest]
        reason += f"; some of them are of {few(others)}." if others else "."
    if answer.cut:
        reason += " The sentence is too long for the model, which reads its beginning only."
    return _title(kind, title, reason, keep if may_add else "")


def _line(threshold: float, within: int) -> str:
    side = "the same above, others below" if within else "all below are others"
    return f'<div class="line" role="separator"><span>threshold {number(threshold)}: {side}</span></div>'


def _card(place: int, hit: Hit, picture: str, answer: Answer) -> str:
    facts = hit.metadata
    kind = "" if answer.threshold is None else "same" if answer.accepts(hit) else "beyond"
    label = f"{place}: {_label(facts)}, distance {hit.distance:.3f}"
    return (
        f'<article class="hit {kind}">'
        f"{_picture(hit.key, picture, label)}"
        f'<p class="name{"" if facts.identity else " none"}" dir="auto">{text(facts.identity or UNNAMED)}</p>'
        f'<p class="facts" dir="auto">{text(facts.camera or NO_CAMERA)}</p>'
        f'<p class="facts">{when(facts.time)}</p>'
        f'<p class="distance"><b>{hit.distance:.3f}</b>'
        f'<button type="button" class="again" data-act="again" data-key="{attribute(hit.key)}" '
        f'aria-label="Search with picture {place}" title="Search with this picture">{_LENS}</button></p>'
        "</article>"
    )


def _label(facts: Metadata) -> str:
    names = (facts.identity or UNNAMED, facts.camera or NO_CAMERA)
    return ", ".join((*map(isolated, names), when(facts.time)))


def _picture(key: str, picture: str, label: str) -> str:
    inside = f'<img src="{picture}" alt="">' if picture else '<span class="lost">no picture</span>'
    return (
        f'<button type="button" class="picture" data-act="look" data-key="{attribute(key)}" '
        f'aria-label="{attribute(label)}" title="{attribute(label)}">{inside}</button>'
    )


def one_picture(entry: Entry, picture: str) -> str:
    """A picture at large, with all that can be done with it, as a dialog."""
    facts, key = entry.metadata, attribute(entry.key)
    inside = f'<img src="{picture}" alt="">' if picture else '<p class="lost">The picture is not there.</p>'
    life = (
        f'<button type="button" data-act="life" data-name="{attribute(facts.identity)}">Timeline</button>'
        if facts.identity
        else ""
    )
    return f"""<dialog class="one" aria-label="{attribute(_label(facts))}">
<button type="button" class="round" data-act="close" aria-label="Close">✕</button>
<div class="large">{inside}</div>
<div class="deeds">
<h2 dir="auto">{text(facts.identity or UNNAMED)}</h2>
<p class="facts"><bdi>{text(facts.camera or NO_CAMERA)}</bdi> · {when(facts.time)}</p>
<p class="facts key" title="{key}">{text(entry.key[:16])}</p>
<p class="buttons">
<button type="button" class="first" data-act="again" data-key="{key}">Search with this picture</button>
{life}</p>
<form data-act="rename" data-key="{key}"><label for="one-name">Name</label>
<input id="one-name" name="name" dir="auto" maxlength="200" autocomplete="off"
value="{attribute(facts.identity)}">
<button type="submit">Save</button></form>
<details><summary>Remove from the gallery</summary>
<p>The entry goes, and the picture with it where the gallery stored it. There is no way back.</p>
<button type="button" class="danger" data-act="forget" data-key="{key}">Remove it</button></details>
</div></dialog>"""


class Visit(NamedTuple):
    """Entries that one camera took in a row."""

    camera: str
    entries: list[Entry]


def visits(entries: Sequence[Entry]) -> list[Visit]:
    """Entries by time as visits: another camera, another day or a pause begins a new one."""
    found: list[Visit] = []
    for entry in entries:
        camera, time = entry.metadata.camera, entry.metadata.time
        last = found[-1] if found else None
        if last is not None and last.camera == camera and _goes_on(last.entries[-1].metadata.time, time):
            last.entries.append(entry)
        else:
            found.append(Visit(camera, [entry]))
    return found


def _goes_on(before: datetime | None, time: datetime | None) -> bool:
    if before is None or time is None:
        return before is time
    return before.date() == time.date() and time - before <= PAUSE


def timeline(name: str, entries: Sequence[Entry], shown: Shown, *, total: int) -> str:
    """Where somebody was: a row for each camera, a column for each visit, days above; of `total` entries."""
    columns = visits(entries)
    cameras = sorted({visit.camera for visit in columns})
    days = [_day(visit) for visit in columns]
    cells = []
    for column, day in enumerate(days):
        if column == 0 or days[column - 1] != day:
            place = f"grid-column:{column + 2}/span {_run(days, column)}"
            cells.append(f'<div class="day" style="{place}">{day}</div>')
            cells.append(f'<div class="day whole" style="{place};grid-row:1/{len(cameras) + 2}"></div>')
    for row, camera in enumerate(cameras, start=2):
        cells.append(
            f'<div class="row" style="grid-row:{row};grid-column:1/{len(columns) + 2}"></div>'
            f'<div class="camera" style="grid-row:{row}"><bdi>{text(camera or NO_CAMERA)}</bdi></div>'
        )
    for column, visit in enumerate(columns, start=2):
        pictures = "".join(
            _picture(entry.key, shown(entry.key), _label(entry.metadata)) for entry in visit.entries
        )
        time = visit.entries[0].metadata.time
        clock = f"{time:%H:%M}" if time else ""
        cells.append(
            f'<div class="visit" style="grid-row:{cameras.index(visit.camera) + 2};grid-column:{column}">'
            f'<p>{clock}</p><div class="burst">{pictures}</div></div>'
        )
    seen = f"{total} pictures, {len(cameras)} cameras, {len(set(days))} days"
    cut = f"; the last {len(entries)} are shown" if len(entries) < total else ""
    return (
        f"{_title('open', name, seen + cut)}"
        f'<div class="life" tabindex="0" role="group" aria-label="Timeline">{"".join(cells)}</div>'
    )


def _day(visit: Visit) -> str:
    time = visit.entries[0].metadata.time
    return f"{time:%a %Y-%m-%d}" if time else NO_TIME


def _run(days: Sequence[str], start: int) -> int:
    return next((n for n, day in enumerate(days[start:]) if day != days[start]), len(days) - start)
