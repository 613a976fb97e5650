"""The gate of a server: who may ask, from where, how much and how often, before anything is read."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import math
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.limits import Limits, Rates, is_local, owner_of
from service.api.metrics import Metrics
from utils.text import one_line, quoted

OPEN = "/health"
_FULL = "too many bytes are on their way; try again"
_PIECE = 65_536  # bytes of an answer, as many as asyncio holds back by default
_API = re.compile(r"/(search|images|health|metrics|docs|openapi\.json)(/|$)")
_AT_ONCE = re.compile(r"/(health|metrics|docs|openapi\.json)(/|$)")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]@/?#]+)(:[0-9]{1,5})?")
_LINGER = 5.0  # seconds that the body of a refused request may take
_READING = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Answers of the API show people: they are in no cache and no frame, and run nothing.
_API_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


class Refusal(Exception):
    """A request that does not get through: status, one line, further headers."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, {name.replace("_", "-"): it for name, it in headers.items()}


def error_response(status: int, message: object, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer for all errors: `{"error": "one line"}`."""
    return JSONResponse({"error": one_line(message)}, status, headers)


class Gate:
    """ASGI middleware around a server's app.

    Refuses hosts that are no IP address, 'localhost' or one of `hosts`, so that no page can reach the server
    under a name of its own (DNS rebinding); pages of other origins (cross-site requests); requests without
    `key`, unless that is ''; too many, too large and too slow ones. `metrics` counts all.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, key: str, hosts: Collection[str], metrics: Metrics
    ) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
        self._key = key.encode()
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._rates = Rates(limits.rate)
        self._requests = self._bytes = 0
        self._asking: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "websocket":  # nothing here needs one
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), 500
        headers = _HEADERS | (_API_HEADERS if _API.match(scope["path"]) else {})

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in headers.items():
                    own.setdefault(name, value)
            await reader.send(message)

        async def answer_in_memory(message: Message) -> None:
            """Answers of the app, which wait in memory until they are read; refused where that is full."""
            nonlocal waiting, is_refused
            if message["type"] == "http.response.start":
                waiting = message
                return
            size = len(message.get("body", b""))
            too_much = self._bytes and self._bytes + size > self.limits.memory
            if is_refused or (waiting and size > _PIECE and too_much):
                is_refused = True
                if waiting:
                    waiting = None
                    await error_response(429, _FULL, {"Retry-After": "1"})(scope, receive, answer)
                return
            self._bytes += size
            try:
                if start := waiting:
                    waiting = None
                    await answer(start)
                await answer(message)
            finally:
                self._bytes -= size

        waiting: Message | None = None
        is_refused = False
        reader = _Reader(send, self.limits.patience)
        try:
            await self._admit(scope, receive, answer_in_memory)
        except Refusal as refusal:
            # A connection that is closed before the body has come may lose the answer on its way.
            body = _Body(receive, 2 * self.limits.max_bytes, _LINGER)
            closing = {} if await body.discard() else {"Connection": "close"}
            response = error_response(refusal.status, refusal, refusal.headers | closing)
            await response(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "")
            self.metrics.count(scope["method"], route, status, time.perf_counter() - started)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer a request, or raise Refusal."""
        path, headers = scope["path"], Headers(scope=scope)
        self._check_host(headers)
        _check_origin(scope["method"], headers)
        client = (scope.get("client") or ("",))[0]
        is_api = _API.match(path) is not None
        is_limited = is_api or scope["method"] not in _READING  # a page has many files, and waits for news
        if is_limited:
            self._take_token(client)
        if self._key and path != OPEN and not any(map(self._is_key, _keys(headers))):
            if not is_limited:  # keys cannot be tried quickly anywhere
                self._take_token(client)
            raise Refusal(
                401,
                "a key is needed: header X-API-Key, Authorization: Bearer, or a password",
                WWW_Authenticate='Basic realm="gallery", charset="UTF-8"',
            )
        most = self.limits.max_bytes if is_api else 2 * self.limits.max_bytes  # the page's is in base64
        size = _size(headers, most)
        body = _Body(receive, most, self.limits.patience)
        if not is_limited or _AT_ONCE.match(path):
            await self.app(scope, body.receive, send)
            return
        if self._requests >= self.limits.queue:
            raise Refusal(429, f"{self._requests} requests are being answered; try again", Retry_After="1")
        owner = owner_of(client)
        if not is_local(client) and self._asking[owner] >= max(self.limits.queue // 2, 1):
            raise Refusal(429, "half of all requests are this client's; try again", Retry_After="1")
        if self._bytes + size > self.limits.memory:
            raise Refusal(429, _FULL, Retry_After="1")
        self._requests, self._bytes = self._requests + 1, self._bytes + size
        self._asking[owner] += 1
        self.metrics.waiting(self._requests)
        try:
            await self.app(scope, body.receive, send)
        finally:
            self._asking[owner] -= 1
            if not self._asking[owner]:
                del self._asking[owner]
            self._requests, self._bytes = self._requests - 1, self._bytes - size
            self.metrics.waiting(self._requests)

    def _check_host(self, headers: Headers) -> None:
        given = headers.getlist("host")
        found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        host = found[1].strip("[]").lower() if found else ""
        if host not in self._hosts and not _is_address(host):
            shown = quoted(", ".join(given))
            raise Refusal(400, f"host {shown}; allowed: an IP address, {', '.join(sorted(self._hosts))}")

    def _take_token(self, client: str) -> None:
        if wait := self._rates.take(client):
            raise Refusal(
                429,
                f"more than {self.limits.rate:g} requests per second; try again",
                Retry_After=str(math.ceil(wait)),
            )

    def _is_key(self, given: bytes) -> bool:
        return hmac.compare_digest(given, self._key)


class _Body:
    """A body that arrives within limits of bytes and time; beyond them `receive` raises HTTPException."""

    def __init__(self, receive: Receive, most: int, patience: float) -> None:
        self._receive, self._most, self._patience = receive, most, patience
        self._left, self._until = most, time.monotonic() + patience
        self._ended = False

    async def discard(self) -> bool:
        """Receive the body and keep nothing; False where it does not come within the limits."""
        try:
            while not self._ended:
                await self.receive()
        except HTTPException:
            return False
        return True

    async def receive(self) -> Message:
        if self._ended:  # what comes now is the end of the connection, which takes as long as the answer
            return await self._receive()
        close = {"Connection": "close"}
        try:
            message = await asyncio.wait_for(self._receive(), max(self._until - time.monotonic(), 0))
        except asyncio.TimeoutError:
            late = f"the body took longer than {self._patience:g} seconds"
            raise HTTPException(408, late, close) from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            large = f"the body is too large; allowed: at most {self._most:,} bytes"
            raise HTTPException(413, large, close)
        self._ended = not message.get("more_body", False)
        return message


class _Reader:
    """Sends answers as fast as the client reads them, so that a request lasts until its answer is read.

    A client that does not read a piece within `patience` seconds gets no more of it.
    """

    def __init__(self, send: Send, patience: float) -> None:
        self._send, self._patience, self._is_gone = send, patience, False

    async def send(self, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        if message["type"] != "http.response.body" or len(body) <= _PIECE:
            await self._send_piece(message)
            return
        for start in range(0, len(body), _PIECE):  # a server waits before a piece until those before are read
            end = start + _PIECE
            piece = {"type": message["type"], "body": body[start:end], "more_body": more or end < len(body)}
            await self._send_piece(piece)

    async def _send_piece(self, piece: Message) -> None:
        if self._is_gone:
            return
        try:
            await asyncio.wait_for(self._send(piece), self._patience)
        except asyncio.TimeoutError:
            self._is_gone = True


def _size(headers: Headers, most: int) -> int:
    """The bytes of a body, as far as the headers say."""
    length = headers.get("content-length", "")
    if length and not (length.isascii() and length.isdecimal()):
        raise Refusal(400, f"Content-Length is {quoted(length)}; allowed: a number")
    if not length:
        return most if "transfer-encoding" in headers else 0
    if len(length) > 20 or int(length) > most:
        raise Refusal(413, f"the body is too large, {length[:20]} bytes; allowed: at most {most:,} bytes")
    return int(length)


def _check_origin(method: str, headers: Headers) -> None:
    """Refuse what pages of other origins send; a link to a page of this server is followed."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if origin is not None and _netloc(origin) != headers.get("host", "").lower():
        raise Refusal(403, f"origin {quoted(origin)}; allowed: pages of this server")
    is_link = method in _READING and headers.get("sec-fetch-mode") == "navigate"
    is_link = is_link and headers.get("sec-fetch-dest") == "document"
    if site not in ("none", "same-origin") and not is_link:
        raise Refusal(403, f"a request of another site ({quoted(site)}); allowed: pages of this server")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # of a bracket that does not end
        return ""


def _keys(headers: Headers) -> Iterator[bytes]:
    """The keys that a request brings."""
    for given in headers.getlist("x-api-key"):
        yield given.encode("latin-1")
    for given in headers.getlist("authorization"):
        scheme, _, value = given.partition(" ")
        if scheme.lower() == "bearer":
            yield value.strip().encode("latin-1")
        elif scheme.lower() == "basic":  # of a browser that shows the page: any name, the key as password
            try:
                yield base64.b64decode(value, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                continue


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
