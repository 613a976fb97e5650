"""The page on a service: no file and no tool of gradio's interface can be reached."""

import tempfile
from pathlib import Path

import pytest

from service.page import make_page, mount_page
from tests.service.page.conftest import BAD_NAME, made_finder
from utils import package

SHUT = (
    "/gradio_api/file=/etc/hostname",
    "/gradio_api/file=README.md",
    "/gradio_api/file/README.md",
    "/gradio_api/proxy=https://example.org/",
    "/gradio_api/run/search",
    "/gradio_api/call/search/1",
    "/gradio_api/queue/join",
    "/gradio_api/queue/data",
    "/gradio_api/heartbeat/abc",
    "/gradio_api/component_server",
    "/gradio_api/stream/1/2/3/playlist-file",
    "/gradio_api/deep_link",
    "/gradio_api/vibe-code",
    "/gradio_api/runs",
    "/gradio_api/openapi.json",
    "/monitoring",
    "/monitoring/summary",
    "/svelte/x",
    "/login",
    "/logout",
    "//gradio_api/file=/etc/hostname",
    "/a/../gradio_api/file=/etc/hostname",
)


@pytest.fixture(scope="module")
def client(model, text_model, tmp_path_factory):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ok"

    with made_finder(tmp_path_factory.mktemp("mount"), model, text_model) as finder:
        mount_page(app, finder)
        with TestClient(app) as client:
            yield client


def test_the_service_keeps_its_routes(client):
    assert client.get("/health").json() == "ok"
    page = client.get("/")
    assert page.status_code == 200 and '"title":"Gallery"' in page.text
    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", SHUT)
def test_what_the_page_does_not_use_is_not_there(client, path):
    for method in ("GET", "POST"):
        assert client.request(method, path).status_code in (404, 405)


def test_nothing_is_uploaded(client):
    before = set(Path(tempfile.gettempdir()).glob("gradio/*"))
    answer = client.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 100)})
    assert answer.status_code == 404
    assert set(Path(tempfile.gettempdir()).glob("gradio/*")) == before


@pytest.mark.parametrize("deed", ["keep", "change"])
@pytest.mark.parametrize("path", ["/etc/hostname", "/dev/zero", "https://example.org/a.png"])
def test_no_file_is_copied_or_fetched_by_name(client, path, deed, monkeypatch):
    async def fail(*args: object, **kwargs: object) -> None:
        pytest.fail(f"gradio takes {path}")

    monkeypatch.setattr("gradio.blocks.Block.async_move_resource_to_block_cache", fail)
    named = {"path": path, "meta": {"_type": "gradio.FileData"}}
    functions = client.get("/config").json()["dependencies"]
    found = next(each for each in functions if [name for _, name in each["targets"]] == [deed])
    for value in (named, {"data": named}, [named]):
        data = [value, *[None] * (len(found["inputs"]) - 1)]
        body = {"fn_index": found["id"], "data": data, "session_hash": "a"}
        answer = client.post("/gradio_api/run/predict", json=body)
        assert answer.status_code == 400 and "takes no files" in answer.text


def test_no_question_is_remembered(client):
    gradio_app = client.app.routes[-1].app.app
    functions = client.get("/config").json()["dependencies"]
    found = {name: each["id"] for each in functions for _, name in each["targets"]}
    body = {"fn_index": found["keep"], "data": [{"data": "bWluZQ=="}], "session_hash": "remembered"}
    assert "bWluZQ" in client.post("/gradio_api/run/predict", json=body).text
    assert "bWluZQ" not in str(gradio_app.state_holder.session_data["remembered"].config_values)


def test_the_configuration_has_nothing_of_the_gallery(client):
    text = client.get("/config").text
    assert BAD_NAME not in text and "Anna" not in text and "/tmp" not in text
    assert '"analytics_enabled":false' in text.replace(" ", "")
    assert client.get("/gradio_api/info").json() == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_fonts_and_scripts_are_not_fetched(client):
    page = client.get("/").text + client.get("/theme.css").text
    for word in ("fonts.googleapis", "fonts.gstatic", "cdnjs", "huggingface.co"):
        assert word not in page


def test_without_gradio(finder, monkeypatch):
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r'gradio is not installed; needed: pip install "clipreid\[web\]"'
    ):
        make_page(finder)


HOSTILE = (
    "",
    "{",
    "[]",
    '{"data": null, "fn_index": 0}',
    '{"data": [], "fn_index": 99, "session_hash": "a"}',
    '{"data": [], "fn_index": -1}',
    '{"data": ["x"], "fn_index": "one", "session_hash": "a"}',
    '{"data": [{"key": {"a": 1}}, 1, 2, 3, 4, 5], "fn_index": 3, "session_hash": "a"}',
    '{"data": [], "fn_index": 3, "session_hash": ["a"]}',
)


@pytest.mark.parametrize("body", HOSTILE)
def test_what_is_no_request_of_the_page_ends_nothing(client, body):
    answer = client.post(
        "/gradio_api/run/predict", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200 or 400 <= answer.status_code < 500
    assert "Traceback" not in answer.text
    assert client.get("/").status_code == 200
