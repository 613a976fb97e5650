"""Hostile requests get a status of 4xx and one line, and take no memory."""

import contextlib
import gc
import http.client
import json
import socket
import urllib.parse

import httpx
import psutil
import pytest

from service.api import Limits, make_app
from tests.service import hostile
from tests.service.conftest import draw, running

pytestmark = [pytest.mark.slow, pytest.mark.service]
MEBIBYTE = 2**20


def send(address, data):
    """Status, media type and text of the answer; status 0 where there is none."""
    where = urllib.parse.urlsplit(address)
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was read
            connection.sendall(data)
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
            return answer.status, answer.headers.get_content_type(), answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, "", repr(error)


def test_hostile_requests(finder, tmp_path):
    requests = hostile.all_requests()
    assert len(requests) > 300
    wrong = {}
    with running(make_app(finder, Limits(rate=0))) as address:
        kept = httpx.post(f"{address}/images", files={"image": ("a", draw(0))}).json()

        def round_of_all():
            for name, data in requests.items():
                status, kind, text = send(address, data)
                line = json.loads(text).get("error", "") if kind == "application/json" else text
                if not (400 <= status < 500 and line and line.isprintable() and len(line) <= 300):
                    wrong[name] = status, text[:300]
            gc.collect()
            return psutil.Process().memory_info().rss

        rounds = [round_of_all() for _ in range(3)]
        assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
        assert rounds[2] - rounds[1] < 8 * MEBIBYTE, [size / MEBIBYTE for size in rounds]
        found = httpx.post(f"{address}/search", files={"image": ("a", draw(0))}).json()
        assert [hit["key"] for hit in found["hits"]] == [kept["key"]]
    assert [path.stem for path in (tmp_path / "pictures").iterdir()] == [kept["key"]]


def test_pictures_with_more_behind_them_are_pictures_only(finder):
    """A valid picture with a script behind it is kept, and shown as nothing but a picture."""
    data = hostile.picture("GIF") + b"<script>alert(1)</script>"
    with running(make_app(finder, Limits(rate=0))) as address:
        kept = httpx.post(f"{address}/images", files={"image": ("../../a.html", data, "text/html")})
        assert kept.status_code == 201
        shown = httpx.get(address + kept.json()["picture"])
        assert (
            shown.headers["content-type"] == "image/gif"
            and shown.headers["x-content-type-options"] == "nosniff"
        )
