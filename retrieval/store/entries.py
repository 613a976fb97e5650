"""Entries of a gallery: what is known of a picture besides its features, and the rows that a store keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, JsonValue

from utils.text import printable, quoted
from utils.untrusted.forms import Form, check_form

MAX_KEY, MAX_NAME, MAX_PATH, MAX_MORE = 512, 1024, 16_384, 60_000  # bytes of UTF-8
NO_TIME = -(2**62)  # of an entry without a time, in microseconds; a server has no null
# A day from the ends of the calendar every zone has a date.
FIRST_TIME = datetime(1, 1, 2, tzinfo=timezone.utc)
LAST_TIME = datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=timezone.utc)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
# In names: wide spaces, and what joins and parts letters of Persian or the people of an emoji.
_ALLOWED = frozenset("\u00a0\u3000\u200c\u200d")


def checked_text(text: str, most: int) -> str:
    """The text, of at most `most` bytes. Raises ValueError for more, and where it cannot be printed."""
    # A search compares texts in a language of its own, which has no escapes for such letters.
    if not text.isprintable() and not all(each.isprintable() or each in _ALLOWED for each in text):
        raise ValueError("allowed: text that can be printed, without line breaks")
    if len(text.encode()) > most:
        raise ValueError(f"allowed: at most {most:,} bytes")
    return text


def _at_most(most: int) -> AfterValidator:
    return AfterValidator(lambda text: checked_text(text, most))


def _small(more: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        size = len(json.dumps(more, ensure_ascii=False).encode())
    except UnicodeEncodeError as error:
        raise ValueError("allowed: text without halves of surrogate pairs") from error
    if size > MAX_MORE:
        raise ValueError(f"allowed: at most {MAX_MORE:,} bytes as JSON")
    return more


def _in_calendar(time: datetime | None) -> datetime | None:
    if time is not None:
        microseconds(time)
    return time


_Name = Annotated[str, _at_most(MAX_NAME)]


class SpaceModel(Form):
    """The model whose features a space of a gallery holds.

    `sha256` is over all that shapes its features: weights, size of images, normalisation and more. `width` is
    that of the features.
    """

    name: str
    sha256: str
    width: Annotated[int, Field(ge=1, le=32_768)]

    def __str__(self) -> str:
        return f"{printable(self.name)} ({self.sha256[:12]}, {self.width} wide)"


class Metadata(Form):
    """Facts about a picture; '' and None are unknown.

    `identity` is the name of who it shows, `camera` that of the camera. A `time` without a zone is in the
    system's; it is kept to the microsecond. `path` is where the picture lies, `picture` the SHA-256 of its
    bytes in hex. `more` is anything else, as JSON.
    """

    identity: _Name = ""
    camera: _Name = ""
    time: Annotated[datetime | None, AfterValidator(_in_calendar)] = None
    path: Annotated[str, _at_most(MAX_PATH)] = ""
    picture: _Name = ""
    more: Annotated[dict[str, JsonValue], AfterValidator(_small)] = Field(default_factory=dict)

    def completed(self, other: Metadata) -> Metadata:
        """The same with what only the other knows; of `more` each entry by its name."""
        known = {name: value for name, value in self if value not in ("", None)}
        return other.model_copy(update=known | {"more": {**other.more, **self.more}})


class Entry(NamedTuple):
    """An item of a gallery."""

    key: str
    metadata: Metadata


class Hit(NamedTuple):
    """An item that was found, and the cosine similarity of its features to those that were searched."""

    key: str
    similarity: float
    metadata: Metadata

    @property
    def distance(self) -> float:
        """The squared Euclidean distance of the features at norm 1, 0 to 4, as thresholds have it."""
        return max(0.0, 2 - 2 * self.similarity)  # rounded, a similarity may be above 1


def check_keys(keys: Sequence[str]) -> list[str]:
    """The keys as a list. Raises ValueError for one that a store cannot hold, and for one given twice."""
    if isinstance(keys, str):
        raise ValueError(f"keys is the one text {quoted(keys)}; allowed: a list of texts")
    keys = list(keys)
    seen: set[str] = set()
    for key in keys:
        if not isinstance(key, str) or not key:
            raise ValueError(f"key {key!r}; allowed: text that is not empty")
        try:
            checked_text(key, MAX_KEY)
        except ValueError as error:
            raise ValueError(f"key {quoted(key)}; {error}") from None
        if key in seen:
            raise ValueError(f"key {quoted(key)} is given twice; allowed: each key once")
        seen.add(key)
    return keys


def check_metadata(
    metadata: Sequence[Metadata | Mapping[str, Any]] | None, keys: Sequence[str]
) -> list[Metadata]:
    """The metadata of each key. Raises ValueError for another number, unknown fields and wrong values."""
    if metadata is None:
        return [Metadata()] * len(keys)
    if len(metadata) != len(keys):
        raise ValueError(
            f"metadata has {len(metadata)} items and keys {len(keys)}; allowed: one for each key"
        )
    checked = []
    for key, given in zip(keys, metadata, strict=True):
        if not isinstance(given, Metadata):
            unknown = [str(name) for name in given if name not in Metadata.model_fields]
            if unknown:
                fields = ", ".join(Metadata.model_fields)
                raise ValueError(
                    f"metadata of {quoted(key)} has {quoted(unknown[0])}; allowed: {fields} (others in more)"
                )
            given = check_form(given, Metadata, f"metadata of {quoted(key)}")
        checked.append(given)
    return checked


def microseconds(time: datetime) -> int:
    """A time since 1970 in UTC; one without a zone is in the system's.

    Raises ValueError for a time that another zone has no date for.
    """
    try:
        moment = time.astimezone(timezone.utc)
    except (OverflowError, ValueError):
        moment = None
    if moment is None or not FIRST_TIME <= moment <= LAST_TIME:
        raise ValueError(f"time {time}; allowed: {FIRST_TIME.date()} to {LAST_TIME.date()}")
    return (moment - _EPOCH) // _MICROSECOND


def as_row(key: str, metadata: Metadata) -> dict[str, Any]:
    """The fields of an entry as a store keeps them, without its features."""
    row = metadata.model_dump()
    row["time"] = NO_TIME if metadata.time is None else microseconds(metadata.time)
    return row | {"key": key, "more": json.dumps(metadata.more, ensure_ascii=False)}


def as_metadata(row: Mapping[str, Any]) -> Metadata:
    """The metadata in a row of a store."""
    fields = {name: row[name] for name in Metadata.model_fields}
    time = None if row["time"] == NO_TIME else (_EPOCH + row["time"] * _MICROSECOND).astimezone()
    # It was checked when it was stored.
    return Metadata.model_construct(**fields | {"time": time, "more": json.loads(row["more"])})


def condition(
    *,
    exclude_camera: str = "",
    identities: Sequence[str] | None = None,
    cameras: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> str:
    """The condition of a search in the store's language; '' for none.

    Entries without a time are in no span. Raises ValueError for names that no entry can have.
    """
    parts = []
    if exclude_camera:
        parts.append(f"camera != {literal(exclude_camera)}")
    for field, what, names in (("identity", "identities", identities), ("camera", "cameras", cameras)):
        if isinstance(names, str):
            raise ValueError(f"{what} is the one text {quoted(names)}; allowed: a list of names")
        if names is not None:
            parts.append(f"{field} in {literals(names)}")
    if since is not None:
        parts.append(f"time >= {microseconds(since)}")
    if until is not None:
        parts.append(f"time <= {microseconds(until)}")
        parts += [] if since is not None else [f"time > {NO_TIME}"]
    return " and ".join(parts)


def literals(texts: Sequence[str]) -> str:
    """A list of texts in the store's language."""
    return f"[{', '.join(map(literal, texts))}]"


def literal(text: str) -> str:
    """A text in the store's language. Raises ValueError for a text that it cannot express."""
    try:
        return json.dumps(checked_text(text, MAX_PATH), ensure_ascii=False)
    except ValueError as error:
        raise ValueError(f"{quoted(text)}; {error}") from None
