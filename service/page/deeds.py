"""Everything that the page does: functions from values of a browser to HTML. A user's errors become lines.

A browser may send anything, so values are checked here and in `question`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field

from service.batching import Busy
from service.finder import Finder, SearchOptions, Sentence
from service.page import markup
from service.page.known import Known
from service.page.pictures import small_picture
from service.page.question import read_bytes, read_distance, read_question, read_time
from utils.text import isolated, one_line, quoted
from utils.untrusted.forms import Form, check_form

if TYPE_CHECKING:
    from retrieval import Metadata

MOST_HITS, MOST_SEEN, MOST_NAMES = 60, 200, 2000  # of a ranking, of a timeline, of a list
CARD, LARGE = 320, 900  # pixels
_logger = logging.getLogger("transreid.service")
MENDED = (Busy, KeyError, OSError, ValueError)  # whose message is for the user


def words_of(error: Exception) -> str:
    """The message of an error for the user; where the store lies is only for the log."""
    if isinstance(error, OSError):
        _logger.error("page: %s", one_line(error))
        return "the gallery or its disk cannot be reached"
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


class Lists(NamedTuple):
    """The page's title, and what its fields offer: names, cameras with their labels."""

    head: str
    names: list[str]
    cameras: list[tuple[str, str]]


class _Sent(Form):
    """The filters that a browser may send."""

    cameras: list[str] | None
    since: str | None
    until: str | None
    hits: Annotated[float, Field(ge=1, le=MOST_HITS)]
    threshold: str | None


@dataclass(frozen=True)
class Filters:
    """The filters of a search as the page's fields have them, or as a browser says that they have."""

    cameras: list[str]
    since: str
    until: str
    hits: float
    threshold: str

    def options(self) -> SearchOptions:
        """The same for the finder. Raises ValueError."""
        sent = check_form(vars(self), _Sent, "filters")
        return SearchOptions(
            k=int(sent.hits),
            cameras=tuple(sent.cameras or ()) or None,
            since=read_time(sent.since),
            until=read_time(sent.until, last=True),
            threshold=read_distance(sent.threshold),
        )


@dataclass(frozen=True)
class Deeds:
    """All that the page does with a finder."""

    finder: Finder
    max_bytes: int  # of a picture

    @property
    def may_add(self) -> bool:
        """Whether there is a folder for pictures."""
        return self.finder.pictures is not None

    def shown(self, key: str, most: int = CARD) -> str:
        """The picture of an entry for the page; '' where it cannot be shown."""
        try:
            return small_picture(self.finder.picture(key), most)
        except (KeyError, OSError, ValueError):
            return ""

    @cached_property
    def _known(self) -> Known:
        return Known(self.finder)

    def lists(self, *, changed: bool = False) -> Lists:
        """The names and cameras of the gallery; `changed`: the page has just changed it."""
        try:
            entries = self.finder.gallery.count(self.finder.image_space)
            names, cameras = self._known(changed=changed)
        except OSError as error:
            return Lists(markup.message(words_of(error)), [], [])
        return Lists(
            markup.head(entries, names, cameras),
            sorted(filter(None, names))[:MOST_NAMES],
            [
                (f"{isolated(name or markup.NO_CAMERA)} ({count:,})", name)
                for name, count in sorted(cameras.items())
            ],
        )

    def welcome(self) -> str:
        """The words in place of a ranking before the first question."""
        return markup.welcome(takes_sentences=self.finder.takes_sentences)

    def search(self, question: Any, filters: Filters) -> str:
        """The ranking for a question."""
        try:
            asked = read_question(question, self.max_bytes)
            if asked is None:
                return self.welcome()
            answer = self.finder.search(asked, filters.options())
        except MENDED as error:
            return markup.message(words_of(error))
        # A hit's own picture is there already, a sentence is none.
        may_add = self.may_add and bool(question.get("data")) and not isinstance(asked, Sentence)
        return markup.ranking(answer, self.shown, may_add=may_add and not question.get("key"))

    def ask_again(self, key: str) -> dict[str, str]:
        """An entry as the next question."""
        return {"key": key, "data": self.shown(key)}

    def look(self, key: str) -> str:
        """One picture at large."""
        try:
            return markup.one_picture(self.finder.entry(key), self.shown(key, LARGE))
        except MENDED as error:
            return markup.message(words_of(error))

    def timeline(self, name: str | None) -> str:
        """Where somebody was."""
        if not name:
            return markup.no_name()
        try:
            entries = self.finder.timeline(name)
        except MENDED as error:
            return markup.message(words_of(error))
        if not entries:
            return markup.message(f"nobody is named {quoted(name)}")
        return markup.timeline(name, entries[-MOST_SEEN:], self.shown, total=len(entries))

    def add(self, question: Any, facts: dict[str, Any]) -> tuple[str, bool]:
        """Add the picture in a field; a line about it, and whether it was added."""
        try:
            metadata = _metadata(facts)
            if read_question(question, self.max_bytes) is None or not question.get("data"):
                raise ValueError("no picture is chosen")
            entry = self.finder.add(read_bytes(question["data"], self.max_bytes), metadata)
        except MENDED as error:
            return markup.message(words_of(error)), False
        return markup.added(entry.metadata), True

    def rename(self, key: str, name: str) -> str:
        """Give an entry another name; one line."""
        try:
            self.finder.rename(key, name.strip())
        except MENDED as error:
            return markup.message(words_of(error))
        return self.look(key)

    def remove(self, key: str) -> str:
        """Remove an entry; one line."""
        try:
            was_there = self.finder.remove(key)
        except MENDED as error:
            return markup.message(words_of(error))
        return markup.message("Removed" if was_there else "It was not there any more", "done")


def _metadata(facts: dict[str, Any]) -> Metadata:
    """Raises ValueError."""
    from retrieval import Metadata

    texts = {name: str(facts.get(name) or "").strip() for name in ("identity", "camera")}
    return check_form(texts | {"time": read_time(facts.get("time"))}, Metadata, "picture")
