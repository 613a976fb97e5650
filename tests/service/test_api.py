"""The server's API: what it answers, and whom."""

import base64
import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import clipreid
from retrieval import Metadata
from service import Finder
from service.api import Limits, make_app
from tests.service.conftest import draw, running

KEY = "0123456789abcdef"
OPEN = Limits(rate=0)


@pytest.fixture
def client(finder):
    with TestClient(make_app(finder, OPEN), base_url="http://localhost") as client:
        yield client


def upload(seed=0, form="PNG"):
    return {"image": ("picture", draw(seed, form=form))}


def add(client, seed=0, **fields):
    answer = client.post("/images", files=upload(seed), data=fields)
    assert answer.status_code == 201
    return answer.json()


def refused(answer, status, text):
    """Whether an answer has that status and one line of JSON with that text."""
    assert answer.status_code == status and list(answer.json()) == ["error"], answer.text
    line = answer.json()["error"]
    assert text in line and "\n" not in line and line.isprintable() and len(line) <= 300, line
    assert answer.headers["content-type"] == "application/json"
    return True


def test_pictures_are_added_and_found(client):
    entry = add(client, 0, identity="Ängela", camera="hall", time="2026-05-04T12:00:00+02:00")
    key = hashlib.sha256(draw(0)).hexdigest()
    assert entry["key"] == key and entry["picture"] == f"/images/{key}" and entry["identity"] == "Ängela"
    add(client, 1, identity="ben", camera="gate")
    answer = client.post("/search", files=upload(0), data={"k": "1"}).json()
    (hit,) = answer["hits"]
    assert hit["distance"] < 1e-5 and hit["accepted"] and {**hit, **entry} == hit
    assert answer["space"] == "reid" and answer["threshold"] is None and not answer["nobody"]
    assert "path" not in json.dumps(answer)


@pytest.mark.parametrize("kind", ["json", "data"])
def test_sentences_keys_and_options(client, kind):
    first, second = add(client, 0, camera="hall", time="2026-05-04T12:00Z"), add(client, 1)

    def hits(**fields):
        answer = client.post("/search", **{kind: fields})
        assert answer.status_code == 200, answer.text
        return [hit["key"] for hit in answer.json()["hits"]]

    sentence = {"sentence": "A man in a red coat."}
    assert set(hits(**sentence)) == {first["key"], second["key"]}
    assert hits(key=first["key"]) == [second["key"]] and len(hits(**sentence, k=1)) == 1
    assert hits(**sentence, cameras=["hall", "gate"]) == [first["key"]]
    assert hits(**sentence, cameras=[""]) == hits(**sentence, exclude_camera="hall") == [second["key"]]
    assert hits(**sentence, since="2026-05-04T11:00Z", until="2026-05-04T14:00:00+02:00") == [first["key"]]
    assert hits(**sentence, since="2026-05-04T13:00Z") == []
    nobody = client.post("/search", **{kind: {**sentence, "threshold": 0}}).json()
    assert (
        nobody["nobody"] and not any(hit["accepted"] for hit in nobody["hits"]) and nobody["threshold"] == 0
    )


def test_wrong_questions(client):
    add(client)
    for fields, text in (
        ({}, "0 of image, sentence and key"),
        ({"sentence": "a man", "key": "a"}, "2 of image, sentence and key"),
        ({"sentence": " "}, "no words"),
        ({"sentence": "a man", "k": 1001}, "at most 1000"),
        ({"sentence": "a man", "camera": "hall"}, "camera: Extra inputs"),
        ({"sentence": "a man", "since": "yesterday"}, "since: "),
        ({"sentence": "a man", "until": "0001-01-01"}, "allowed: years 1900 to 2200"),
        ({"sentence": "a man", "cameras": ["a\nb"]}, "cameras.0: allowed: text that can be printed"),
    ):
        assert refused(client.post("/search", json=fields), 422, text)
    assert refused(client.post("/search", json={"key": "other"}), 404, "no such entry")
    assert refused(
        client.post("/search", content="{", headers={"content-type": "application/json"}), 400, "JSON"
    )
    plain = client.post("/search", content=json.dumps({"key": "a"}), headers={"content-type": "text/plain"})
    assert refused(plain, 415, "Content-Type is 'text/plain'; allowed: multipart/form-data")
    assert refused(client.post("/images", data={"identity": "a"}), 415, "allowed: multipart/form-data")
    assert refused(client.post("/images", files={"identity": (None, "a")}), 422, "image is missing")
    assert refused(client.get("/search"), 405, "Method Not Allowed")
    assert refused(client.get("/other"), 404, "Not Found")


def test_only_pictures_of_the_gallery_are_shown(client, finder, tmp_path):
    entry = add(client, form_is := 0)
    shown = client.get(entry["picture"])
    assert shown.content == draw(form_is) and shown.headers["content-type"] == "image/png"
    assert (
        shown.headers["x-content-type-options"] == "nosniff" and shown.headers["cache-control"] == "no-store"
    )
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    (tmp_path / "secret.txt").write_text("secret")
    for key in (
        "../secret.txt",
        "..%2fsecret.txt",
        "%2e%2e/secret.txt",
        str(tmp_path / "secret.txt"),
        "a%00b",
    ):
        assert refused(client.get(f"/images/{key}"), 404, "o")
    secret = hashlib.sha256(b"secret").hexdigest()
    facts = Metadata(path=str(tmp_path / "secret.txt"), picture=secret)
    finder.gallery.add(torch.ones(1, finder.gallery.models["reid"].width), ["any/key"], [facts])
    assert refused(client.get("/images/any%2Fkey"), 409, "cannot be read as an image")
    Path(finder.entry(entry["key"]).metadata.path).write_bytes(draw(9))
    assert refused(client.get(entry["picture"]), 409, "has changed since")
    Path(finder.entry(entry["key"]).metadata.path).unlink()
    assert refused(client.get(entry["picture"]), 404, "is not there any more")


def test_removing_removes_entry_and_picture(client, tmp_path):
    entry = add(client)
    assert client.delete(entry["picture"]).json() == {"removed": entry["key"]}
    assert refused(client.delete(entry["picture"]), 404, "no such entry")
    assert refused(client.get(entry["picture"]), 404, "no such entry")
    assert not list((tmp_path / "pictures").iterdir())
    assert client.post("/search", files=upload()).json()["hits"] == []
    assert refused(client.delete("/images/a%0Ab"), 404, "Not Found")
    entry = add(client, identity="somebody")
    assert refused(client.delete(entry["picture"], params={"erase": "perhaps"}), 422, "erase")
    assert client.delete(entry["picture"], params={"erase": "true"}).status_code == 200
    files = [path for path in (tmp_path / "gallery.db").rglob("*") if path.is_file()]
    assert not any(b"somebody" in path.read_bytes() for path in files)


def test_without_a_folder_nothing_is_added(gallery, model, text_model):
    with TestClient(
        make_app(Finder(gallery, model, text_model), OPEN), base_url="http://localhost"
    ) as client:
        assert refused(client.post("/images", files=upload()), 422, "needed: a folder for pictures")


def test_a_gallery_that_fails_is_no_bug(client, finder, monkeypatch, caplog):
    def fail(*args, **options):
        raise OSError("the disk is full: /secret/place")

    monkeypatch.setattr(finder.gallery, "search", fail)
    answer = client.post("/search", files=upload())
    assert refused(answer, 503, "cannot be reached") and answer.headers["retry-after"] == "5"
    assert "secret" not in answer.text and "the disk is full" in caplog.text


def test_a_bug_is_not_told(finder, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("secret")

    monkeypatch.setattr(finder, "search", fail)
    app = make_app(finder, OPEN)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        assert refused(client.post("/search", files=upload()), 500, "an error of this server")


def test_a_key_opens(finder):
    with TestClient(make_app(finder, OPEN, key=KEY), base_url="http://localhost") as client:
        for path in ("/metrics", "/docs", "/openapi.json", "/images/a", "/other"):
            answer = client.get(path)
            assert refused(answer, 401, "a key is needed") and "Basic" in answer.headers["www-authenticate"]
        assert refused(client.post("/search", files=upload()), 401, "a key is needed")
        assert client.get("/health").json() == {"status": "ok"}
        password = base64.b64encode(f"anybody:{KEY}".encode()).decode()
        for headers in (
            {"X-API-Key": KEY},
            {"Authorization": f"Bearer {KEY}"},
            {"Authorization": f"Basic {password}"},
        ):
            assert client.get("/docs", headers=headers).status_code == 200
        for headers in (
            {"X-API-Key": KEY[:-1]},
            {"X-API-Key": KEY + "0"},
            {"X-API-Key": "é" * 16},
            {"Authorization": KEY},
            {"Authorization": "Basic !"},
            {"Authorization": f"Bearer {KEY.upper()}"},
        ):
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            assert client.get("/docs", headers=encoded).status_code == 401


def test_names_and_pages_of_others_are_refused(finder):
    app = make_app(finder, OPEN, hosts=["Gallery.example"])
    with TestClient(app, base_url="http://localhost:8000") as client:
        for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7", "gallery.example:80"):
            assert client.get("/health", headers={"host": host}).status_code == 200
        for host in (
            "evil.example",
            "localhost.evil.example",
            "a@localhost",
            "127.0.0.1.evil.example",
            "",
            "[::1",
        ):
            assert refused(client.get("/health", headers={"host": host}), 400, "allowed: an IP address")
        for origin in (
            "http://evil.example",
            "null",
            "http://localhost:3000",
            "http://localhost:8000.evil.example",
            "http://[",
        ):
            assert refused(client.post("/images", files=upload(), headers={"origin": origin}), 403, "origin")
        for site in ("cross-site", "same-site"):
            assert refused(client.get("/images/a", headers={"sec-fetch-site": site}), 403, "another site")
            link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
            assert client.get("/docs", headers=link).status_code == 200
            assert refused(client.delete("/images/a", headers=link), 403, "another site")
        own = {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
        assert client.post("/search", files=upload(), headers=own).status_code == 200


def test_a_client_has_a_rate(finder):
    with TestClient(make_app(finder, Limits(rate=0.1)), base_url="http://localhost") as client:
        assert client.get("/health").status_code == 200
        answer = client.get("/health")
        assert (
            refused(answer, 429, "more than 0.1 requests per second")
            and answer.headers["retry-after"] == "10"
        )
        assert client.get("/page").status_code == 404  # a page has many files


def test_keys_cannot_be_tried_quickly(finder):
    with TestClient(make_app(finder, Limits(rate=0.1), key=KEY), base_url="http://localhost") as client:
        assert [client.get("/page").status_code for _ in range(3)] == [401, 429, 429]


def test_bodies_have_a_size(finder):
    limits = Limits(max_bytes=1000, rate=0)
    picture = draw(0, (64, 64))
    with TestClient(make_app(finder, limits), base_url="http://localhost") as client:
        assert refused(client.post("/search", files={"image": ("a", picture)}), 413, "at most 1,000 bytes")

        def blocks():
            for _ in range(100):
                yield b"0" * 100

        for kind in ("multipart/form-data; boundary=a", "application/json"):
            answer = client.post("/search", content=blocks(), headers={"content-type": kind})
            assert refused(answer, 413, "at most 1,000 bytes") and answer.headers["connection"] == "close"
    with TestClient(make_app(finder, OPEN), base_url="http://localhost") as client:
        assert refused(client.post("/search", json={"sentence": "a" * 70_000}), 413, "at most 65,536 bytes")


@pytest.mark.service
def test_a_body_has_its_time(finder):
    with running(make_app(finder, Limits(patience=0.5, rate=0))) as address:

        def blocks():
            yield b"{"
            time.sleep(2)
            yield b"}"

        started = time.monotonic()
        headers = {"content-type": "application/json"}
        answer = httpx.post(f"{address}/search", content=blocks(), headers=headers)
        assert refused(answer, 408, "longer than 0.5 seconds") and time.monotonic() - started < 10


@pytest.mark.service
def test_a_full_queue_refuses_and_recovers(finder, monkeypatch):
    add_picture = threading.Event()
    search = finder.search

    def wait(*args):
        assert add_picture.wait(20)
        return search(*args)

    monkeypatch.setattr(finder, "search", wait)
    with running(make_app(finder, Limits(queue=3, rate=0))) as address, ThreadPoolExecutor(8) as pool:
        ask = lambda: httpx.post(f"{address}/search", files=upload(), timeout=30)  # noqa: E731
        waiting = [pool.submit(ask) for _ in range(3)]
        while "in_progress 3.0" not in httpx.get(f"{address}/metrics").text:
            time.sleep(0.02)
        answer = ask()
        assert refused(answer, 429, "3 requests are being answered") and answer.headers["retry-after"] == "1"
        assert httpx.get(f"{address}/health").status_code == 200
        add_picture.set()
        assert [future.result().status_code for future in waiting] == [200] * 3
        assert ask().status_code == 200


@pytest.mark.service
def test_bodies_have_a_size_together(finder, monkeypatch):
    go = threading.Event()
    search = finder.search
    monkeypatch.setattr(finder, "search", lambda *args: go.wait(20) and search(*args))
    limits = Limits(max_bytes=4000, memory=8000, rate=0)
    with running(make_app(finder, limits)) as address, ThreadPoolExecutor(8) as pool:
        ask = lambda: httpx.post(f"{address}/search", files=upload(), timeout=30)  # noqa: E731
        waiting = [pool.submit(ask) for _ in range(4)]  # 1.8 KB each
        while "in_progress 4.0" not in httpx.get(f"{address}/metrics").text:
            time.sleep(0.02)
        assert refused(ask(), 429, "too many bytes")
        go.set()
        assert [future.result().status_code for future in waiting] == [200] * 4


@pytest.mark.service
def test_requests_at_once_share_passes(finder):
    with running(make_app(finder, OPEN)) as address, ThreadPoolExecutor(16) as pool:
        httpx.post(f"{address}/images", files=upload())
        ask = lambda i: httpx.post(f"{address}/search", files=upload(i % 3), timeout=30)  # noqa: E731
        assert {answer.status_code for answer in pool.map(ask, range(96))} == {200}
        families = text_string_to_metric_families(httpx.get(f"{address}/metrics").text)
        samples = {
            sample.name: sample.value
            for family in families
            for sample in family.samples
            if sample.labels.get("input") == "reid"
        }
    assert samples["clipreid_batch_size_sum"] == 97 and samples["clipreid_batch_size_count"] < 80


def test_metrics_count(client):
    add(client)
    client.post("/search", json={"sentence": " "})
    client.get("/nowhere/at/all")
    client.get("/health", headers={"host": "evil.example"})
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'clipreid_requests_total{method="POST",route="/images",status="201"} 1.0',
        'clipreid_requests_total{method="POST",route="/search",status="422"} 1.0',
        'clipreid_requests_total{method="GET",route="",status="404"} 1.0',
        'clipreid_requests_total{method="GET",route="",status="400"} 1.0',
        'clipreid_gallery_entries{space="text"} 1.0',
        "clipreid_requests_in_progress 0.0",
    ):
        assert line in lines


def test_the_reference_loads_nothing(client):
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "POST /search" in page.text and "exclude_camera" in page.text and clipreid.__version__ in page.text
    assert (
        "http" not in page.text.replace("HTTP", "") and "<script" not in page.text and "src=" not in page.text
    )
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/search", "/images", "/images/{key}", "/health", "/metrics"}
    fields = described["paths"]["/search"]["post"]["requestBody"]["content"]
    assert set(fields["multipart/form-data"]["schema"]["properties"]) == {
        *("image", "sentence", "key", "k", "cameras"),
        *("exclude_camera", "since", "until", "threshold"),
    }
    assert set(fields) == {"multipart/form-data", "application/json", "application/x-www-form-urlencoded"}


def test_no_websocket_is_opened(client):
    with pytest.raises(WebSocketDisconnect) as end, client.websocket_connect("/search"):
        pass
    assert end.value.code == 1008
