"""The server's app: search, add, show and remove pictures of a gallery over HTTP."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from retrieval import Metadata
from service.api.forms import (
    IMAGE,
    JSON,
    MULTIPART,
    URL_ENCODED,
    ErrorAnswer,
    FoundAnswer,
    FoundEntry,
    ImageForm,
    SearchForm,
    read_form,
    show_answer,
    show_entry,
)
from service.api.gate import Gate, error_response
from service.api.limits import Limits
from service.api.metrics import Metrics
from service.api.reference import reference_page
from service.batching import Busy
from service.finder import Finder, Key, Picture, SearchOptions, Sentence
from utils.text import one_line
from utils.untrusted.forms import check_form
from utils.untrusted.pictures import open_picture

Result = TypeVar("Result")
_DESCRIPTION = """\
A gallery of pictures that answers who somebody is: searches by a picture, a sentence or an entry's key.

Distances are squared Euclidean ones of features at norm 1, 0 to 4. A hit within the threshold is accepted; \
without one, the answer is "nobody". All errors are JSON with one line: {"error": "…"}. Where the server has \
a key, each request brings it in the header X-API-Key or as Authorization: Bearer."""
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The request or its body is malformed"},
    401: {"model": ErrorAnswer, "description": "The key is missing or wrong"},
    403: {"model": ErrorAnswer, "description": "A page of another site has sent it"},
    413: {"model": ErrorAnswer, "description": "The body is too large"},
    415: {"model": ErrorAnswer, "description": "The body is of another media type"},
    422: {"model": ErrorAnswer, "description": "A picture, sentence or option cannot be used"},
    429: {
        "model": ErrorAnswer,
        "description": "Too many requests; Retry-After says when to try again",
    },
    503: {"model": ErrorAnswer, "description": "The gallery or its disk cannot be reached"},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": "There is no such entry"}
}
_logger = logging.getLogger("transreid.service")


class Removed(BaseModel):
    """An entry was removed."""

    removed: str


class Health(BaseModel):
    """The server answers."""

    status: str


def make_app(finder: Finder, limits: Limits, *, key: str = "", hosts: Collection[str] = ()) -> FastAPI:
    """The app for a finder, which it closes at its end.

    `key` is what requests bring, '' for none. `hosts` are names of this server besides 'localhost' and IP
    addresses.
    """
    from clipreid import __version__

    metrics = Metrics()
    gallery = finder.gallery
    metrics.watch_entries(lambda: {space: gallery.count(space) for space in gallery.spaces})
    finder.watch(metrics.batch)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.threads = anyio.CapacityLimiter(limits.threads)
        yield
        await anyio.to_thread.run_sync(finder.close)

    app = FastAPI(
        title="Gallery",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Gate, limits=limits, key=key, hosts=hosts, metrics=metrics)
    _answer_errors(app)
    _add_search(app, finder, limits)
    _add_images(app, finder, limits)
    _add_about(app, metrics)
    return app


def _answer_errors(app: FastAPI) -> None:
    """All errors are one line of JSON; what nobody expects is logged and not told."""

    def answer(status: int, headers: dict[str, str] | None = None) -> Callable[[Request, Any], Response]:
        return lambda request, error: error_response(status, error, headers)

    @app.exception_handler(HTTPException)
    async def answer_http(request: Request, error: HTTPException) -> Response:
        return error_response(error.status_code, error.detail, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def answer_parameters(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return error_response(422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    @app.exception_handler(OSError)
    async def answer_system(request: Request, error: OSError) -> Response:
        _logger.error("%s %s: %s", request.method, request.url.path, one_line(error))
        return error_response(503, "the gallery or its disk cannot be reached", {"Retry-After": "5"})

    @app.exception_handler(Exception)
    async def answer_bug(request: Request, error: Exception) -> Response:
        return error_response(500, "an error of this server, which its log has")

    app.exception_handler(ValueError)(answer(422))
    app.exception_handler(Busy)(answer(429, {"Retry-After": "1"}))


async def _in_thread(request: Request, work: Callable[..., Result], *args: Any) -> Result:
    return await anyio.to_thread.run_sync(functools.partial(work, *args), limiter=request.app.state.threads)


def _body(form: type[BaseModel], kinds: Collection[str], *, needs_image: bool) -> dict[str, Any]:
    """The OpenAPI description of a body that is read by `read_form`."""
    schema = form.model_json_schema()
    file = {"type": "string", "format": "binary", "description": "An image file"}
    with_image = schema | {"properties": {IMAGE: file, **schema["properties"]}}
    if needs_image:
        with_image["required"] = [IMAGE]
    content = {kind: {"schema": with_image if kind == MULTIPART else schema} for kind in kinds}
    return {"requestBody": {"required": True, "content": content}}


def _add_search(app: FastAPI, finder: Finder, limits: Limits) -> None:
    kinds = (MULTIPART, JSON, URL_ENCODED)

    @app.post(
        "/search",
        response_model=FoundAnswer,
        responses=_ERRORS | _UNKNOWN,
        openapi_extra=_body(SearchForm, kinds, needs_image=False),
    )
    async def search(request: Request) -> FoundAnswer:
        """Rank the entries that are nearest to exactly one of `image`, `sentence` and `key`.

        `cameras` may be given several times, in JSON it is a list.
        """
        image, form = await read_form(request, SearchForm, kinds, limits.max_bytes)
        asked: list[Picture | Sentence | Key] = []
        asked += [] if image is None else [Picture(image)]
        asked += [] if form.sentence is None else [Sentence(form.sentence)]
        asked += [] if form.key is None else [Key(form.key)]
        if len(asked) != 1:
            raise ValueError(f"{len(asked)} of image, sentence and key are given; allowed: exactly one")
        if form.k > limits.most_hits:
            raise ValueError(f"k is {form.k}; allowed: at most {limits.most_hits}")
        options = SearchOptions(
            k=form.k,
            exclude_camera=form.exclude_camera,
            cameras=None if form.cameras is None else tuple(form.cameras),
            since=form.since,
            until=form.until,
            threshold=form.threshold,
        )
        try:
            return show_answer(await _in_thread(request, finder.search, asked[0], options))
        except KeyError as error:
            if form.key is None:
                raise
            raise _unknown() from error


def _add_images(app: FastAPI, finder: Finder, limits: Limits) -> None:
    @app.post(
        "/images",
        response_model=FoundEntry,
        status_code=201,
        responses=_ERRORS,
        openapi_extra=_body(ImageForm, (MULTIPART,), needs_image=True),
    )
    async def add_image(request: Request) -> dict[str, Any]:
        """Add a picture; its key is the SHA-256 of its bytes. One that is there keeps what is not given."""
        image, form = await read_form(request, ImageForm, (MULTIPART,), limits.max_bytes)
        if image is None:
            raise ValueError("image is missing; allowed: an image file")
        metadata = check_form(form.model_dump(), Metadata, "the fields")
        return show_entry(await _in_thread(request, finder.add, image, metadata))

    @app.get(
        "/images/{key:path}",
        response_class=Response,
        responses=_ERRORS
        | _UNKNOWN
        | {
            200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
            409: {"model": ErrorAnswer, "description": "Its file has changed since it was added"},
        },
    )
    async def get_image(request: Request, key: str) -> Response:
        """The picture of an entry, as it was added."""
        try:
            data, kind = await _in_thread(request, _picture, finder, key)
        except KeyError as error:
            raise _unknown() from error
        except FileNotFoundError as error:
            raise HTTPException(404, str(error)) from error
        except ValueError as error:
            raise HTTPException(409, str(error)) from error
        return Response(data, media_type=kind, headers={"Content-Disposition": "inline"})

    @app.delete("/images/{key:path}", response_model=Removed, responses=_ERRORS | _UNKNOWN)
    async def remove_image(request: Request, key: str, erase: bool = False) -> Removed:
        """Remove an entry, and its picture if this server has stored it.

        The gallery's files keep its row for a while; with `erase` they are written afresh without it, which
        takes long in large galleries.
        """
        if not await _in_thread(request, functools.partial(finder.remove, erase=erase), key):
            raise _unknown()
        return Removed(removed=key)


def _unknown() -> HTTPException:
    return HTTPException(404, "there is no such entry")


def _picture(finder: Finder, key: str) -> tuple[bytes, str]:
    """The bytes and the media type of an entry's picture."""
    data = finder.picture(key)
    with open_picture("picture", data) as image:
        return data, Image.MIME.get(image.format or "", "application/octet-stream")


def _add_about(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/health", response_model=Health, responses={429: _ERRORS[429]})
    async def health() -> Health:
        """Whether the server answers; needs no key."""
        return Health(status="ok")

    @app.get("/metrics", response_class=PlainTextResponse, responses=_ERRORS)
    async def show_metrics(request: Request) -> Response:
        """The counts of the server, for Prometheus."""
        return Response(await _in_thread(request, metrics.text), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def show_reference() -> str:
        return reference_page(app.openapi())
