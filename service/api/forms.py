"""Requests and answers of the server: their forms, and bodies of multipart, URL-encoded or JSON content."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from retrieval import Entry, Hit, checked_text
from service.finder import Answer
from utils.text import printable, quoted, shortened
from utils.untrusted.forms import Form

MULTIPART, URL_ENCODED, JSON = "multipart/form-data", "application/x-www-form-urlencoded", "application/json"
_MAX_TEXT = 65_536  # bytes of all that is no picture
_MAX_FIELDS = 64
_MAX_LIST = 1000
_MAX_NAME, _MAX_SENTENCE = 1024, 1000  # characters
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046
_YEARS = (1900, 2200)  # a gallery can be asked about
IMAGE = "image"


def _in_calendar(time: datetime) -> datetime:
    if not _YEARS[0] <= time.year <= _YEARS[1]:
        raise ValueError(f"allowed: years {_YEARS[0]} to {_YEARS[1]}")
    return time


_Name = Annotated[
    str, Field(max_length=_MAX_NAME), AfterValidator(lambda text: checked_text(text, 4 * _MAX_NAME))
]
_Time = Annotated[datetime, Field(strict=False), AfterValidator(_in_calendar)]  # a day is its beginning


class _Options(Form):
    model_config = ConfigDict(extra="forbid")


class SearchForm(_Options):
    """A search: exactly one of `image` (a file), `sentence` and `key`, and its options."""

    sentence: Annotated[str, Field(min_length=1, max_length=_MAX_SENTENCE)] | None = Field(
        None, description="A description of somebody, in a language of the text search model"
    )
    key: _Name | None = Field(None, description="The key of an entry")
    k: Annotated[int, Field(ge=1)] = Field(10, description="How many entries are ranked")
    cameras: Annotated[list[_Name], Field(max_length=_MAX_LIST)] | None = Field(
        None, description="Only these cameras"
    )
    exclude_camera: _Name = Field("", description="Not this camera")
    since: _Time | None = Field(None, description="Not before; ISO 8601, without a zone in the server's")
    until: _Time | None = Field(None, description="Not after")
    threshold: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Largest squared distance of somebody; without it, the server's"
    )


class ImageForm(_Options):
    """Facts about an added picture; all may be left out."""

    identity: _Name = Field("", description="The name of who it shows")
    camera: _Name = ""
    time: _Time | None = Field(None, description="ISO 8601; without a zone in the server's")


class FoundEntry(BaseModel):
    """An entry of the gallery; `picture` is the path of its picture on this server."""

    key: str
    identity: str
    camera: str
    time: datetime | None
    picture: str | None
    more: dict[str, JsonValue]


class FoundHit(FoundEntry):
    """An entry that was found; `accepted` says whether its distance is within the threshold."""

    similarity: float
    distance: float
    accepted: bool


class FoundAnswer(BaseModel):
    """The ranking, nearest first; `nobody`: no hit is within the threshold.

    `cut`: the sentence is too long for the model, which has read its beginning only.
    """

    space: str
    threshold: float | None
    nobody: bool
    cut: bool
    hits: list[FoundHit]


class ErrorAnswer(BaseModel):
    """All errors: what is wrong, in one line."""

    error: str


def show_entry(entry: Entry | Hit) -> dict[str, Any]:
    """The fields of a FoundEntry. Where its file lies on the server is not told."""
    metadata = entry.metadata
    known = metadata.path and metadata.picture
    return {
        "key": entry.key,
        "identity": metadata.identity,
        "camera": metadata.camera,
        "time": metadata.time,
        "picture": f"/images/{quote(entry.key, safe='')}" if known else None,
        "more": metadata.more,
    }


def show_answer(answer: Answer) -> FoundAnswer:
    """The form of an answer."""
    hits = [
        FoundHit(
            **show_entry(hit),
            similarity=hit.similarity,
            distance=hit.distance,
            accepted=answer.accepts(hit),
        )
        for hit in answer.hits
    ]
    return FoundAnswer(
        space=answer.space, threshold=answer.threshold, nobody=answer.nobody, cut=answer.cut, hits=hits
    )


AnyOptions = TypeVar("AnyOptions", bound=_Options)


async def read_form(
    request: Request, form: type[AnyOptions], allowed: Collection[str], max_bytes: int
) -> tuple[bytes | None, AnyOptions]:
    """The file `image` of a body, if there is one, and the other fields as `form`.

    `allowed` are media types. Raises HTTPException with a status of 4xx.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in allowed:
        raise HTTPException(415, f"Content-Type is {quoted(kind)}; allowed: {', '.join(allowed)}")
    if kind == MULTIPART:
        image, fields = await _read_multipart(request, max_bytes)
        return image, _checked(lambda: form.model_validate(_grouped(fields), strict=False))
    text = await _read_text(request)
    if kind == JSON:
        return None, _checked(lambda: form.model_validate_json(text))
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"
        )
    except ValueError:  # of bytes that are no text, too
        raise HTTPException(400, f"the body is no {URL_ENCODED} of at most {_MAX_FIELDS} fields") from None
    return None, _checked(lambda: form.model_validate(_grouped(pairs), strict=False))


async def _read_text(request: Request) -> bytes:
    text = bytearray()
    try:
        async for block in request.stream():
            text += block
            if len(text) > _MAX_TEXT:
                raise HTTPException(413, f"the text is too large; allowed: at most {_MAX_TEXT:,} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the connection ended before the body") from None
    return bytes(text)


async def _read_multipart(request: Request, max_bytes: int) -> tuple[bytes | None, list[tuple[str, str]]]:
    _, parameters = parse_options_header(request.headers["content-type"])
    boundary = parameters.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise HTTPException(400, f"boundary is {quoted(boundary.decode('latin-1'))}; allowed: as in RFC 2046")
    # Without a charset: Python knows some that take long or raise errors of their own.
    headers = Headers({"content-type": f'{MULTIPART}; boundary="{boundary.decode()}"'})
    parser = MultiPartParser(
        headers, _blocks(request), max_files=1, max_fields=_MAX_FIELDS, max_part_size=_MAX_TEXT
    )
    parser.spool_max_size = max_bytes + 1  # no picture of somebody in a temporary file
    try:
        content = await parser.parse()
    except ClientDisconnect:
        raise HTTPException(400, "the connection ended before the body") from None
    except MultiPartException as error:
        raise HTTPException(400, f"the body is no {MULTIPART}: {error.message}") from error
    except (AssertionError, LookupError, TypeError, UnicodeError, ValueError) as error:
        raise HTTPException(400, f"the body is no {MULTIPART}") from error
    image, fields = None, []
    for name, value in content.multi_items():
        if isinstance(value, UploadFile):
            if name != IMAGE:
                raise HTTPException(422, f"{quoted(name)} is a file; allowed: {IMAGE}")
            image = await value.read()
            await value.close()
        elif name == IMAGE:
            raise HTTPException(422, f"{IMAGE} is text; allowed: a file, with a filename")
        else:
            fields.append((name, value))
    return image, fields


async def _blocks(request: Request) -> AsyncGenerator[bytes, None]:
    async for block in request.stream():
        yield block


def _grouped(fields: list[tuple[str, str]]) -> dict[str, Any]:
    """Fields by name, those that are filled in; `cameras` may be given several times, '' among them."""
    found: dict[str, Any] = {}
    for name, value in fields:
        if name == "cameras":
            found.setdefault(name, []).append(value)
        elif name in found:
            raise HTTPException(422, f"{quoted(name)} is given twice; allowed: once")
        elif value:
            found[name] = value
    return found


def _checked(read: Any) -> Any:
    try:
        return read()
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_context=False, include_input=False)
        place = shortened(printable(".".join(map(str, first["loc"]))), 60)
        more = f" (and {len(others)} more)" if others else ""
        status = 400 if first["type"] == "json_invalid" else 422
        said = first["msg"].removeprefix("Value error, ")
        raise HTTPException(status, f"{place}: {said}{more}" if place else f"{said}{more}") from None
