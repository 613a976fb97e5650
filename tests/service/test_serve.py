"""The program that serves a gallery."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from retrieval import Gallery
from tests.service.conftest import draw
from tests.toys import save_text_model, write_tower
from tools import serve

START = (
    "import open_clip, sys; open_clip.add_model_config(sys.argv.pop(1)); from tools.serve import main; main()"
)
KEY = "0123456789abcdef"


@pytest.fixture
def options(weight_files, gallery, tmp_path):
    """Those of a gallery that is there and closed."""
    gallery.close()
    first, second = map(str, weight_files)
    models = ["--weight", first, "--text-weight", second, "--device", "cpu"]
    return ["--gallery", gallery.address, *models, "--port", "0"]


@pytest.fixture
def start(repository, tmp_path):
    """start(options) -> a running server and its address; what runs at the end is killed."""
    processes = []

    def start(options, **environment):
        command = [sys.executable, "-c", START, str(write_tower(tmp_path / "toy-vit.json")), *options]
        process = subprocess.Popen(
            command, cwd=repository, env=os.environ | environment, text=True, stdout=subprocess.PIPE
        )
        processes.append(process)
        for line in process.stdout:
            if found := re.search(r"serving .* at (http://\S+)$", line):
                return process, found[1]
        raise AssertionError(f"it ended with status {process.wait()}")

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.service
def test_it_serves_until_a_signal_comes(options, start, capsys, tmp_path):
    process, address = start([*options, "--no-page", "--threshold", "0.01", "--rate", "0"])
    assert address.startswith("http://127.0.0.1:") and httpx.get(f"{address}/health").status_code == 200
    added = httpx.post(f"{address}/images", files={"image": draw(0)}, data={"identity": "anna"}, timeout=30)
    assert added.status_code == 201 and httpx.get(address).status_code == 404
    found = httpx.post(f"{address}/search", files={"image": draw(0)}, timeout=30).json()
    assert found["hits"][0]["identity"] == "anna" and found["threshold"] == 0.01 and not found["nobody"]
    assert [path.suffix for path in (tmp_path / "gallery.pictures").iterdir()] == [".png"]
    assert ends(capsys, options, f"in use by process {process.pid}")
    # A question that is half asked when the signal comes is answered.
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    body = b'{"sentence": "a man"}'
    connection.putrequest("POST", "/search")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:5])
    while "in_progress 1.0" not in httpx.get(f"{address}/metrics").text:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    connection.send(body[5:])
    assert connection.getresponse().status == 200
    assert process.wait(20) == 0 and process.stdout.read() == "stopped\n"
    with Gallery.open(tmp_path / "gallery.db") as gallery:
        assert gallery.count() == gallery.count("text") == 1


@pytest.mark.slow
@pytest.mark.service
def test_a_key_and_a_page(options, start):
    pytest.importorskip("gradio")
    process, address = start(options, CLIPREID_API_KEY=KEY)
    assert httpx.get(address).status_code == 401
    page = httpx.get(address, auth=("anybody", KEY))
    assert page.status_code == 200 and "text/html" in page.headers["content-type"]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def ends(capsys, options, text):
    """Whether the program ends with status 2 and one line with that text."""
    with pytest.raises(SystemExit) as end:
        serve.main(options)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 or lines[0].startswith("usage:"), lines
    assert end.value.code == 2 and text in lines[-1], lines
    return True


def test_options_that_cannot_be(options, capsys, tmp_path):
    quiet = [*options, "--no-page"]
    for more, text in (
        (["--port", "70000"], "allowed: 0 to 65535"),
        (["--threshold", "-1"], "allowed: a distance from 0 on"),
        (["--far", "0.01"], "--far 0.01 is given without --threshold"),
        (["--rate", "-1"], "rate is -1.0; allowed"),
        (["--queue", "0"], "allowed: 1 or more"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid: "),
        (["--device", "tpu"], "'tpu'"),
    ):
        assert ends(capsys, [*quiet, *more], text)


def test_a_gallery_that_does_not_fit(options, capsys, tmp_path, weight_files, text_model):
    gallery, weight = options[1], str(weight_files[0])
    port = ["--port", "0", "--no-page", "--device", "cpu"]
    assert ends(capsys, ["--gallery", str(tmp_path / "no.db"), "--weight", weight, *port], "does not exist")
    assert ends(
        capsys, ["--gallery", gallery, "--text-weight", str(weight_files[1]), *port], "--weight is missing"
    )
    assert ends(capsys, ["--gallery", gallery, *port], "--weight is missing")
    other = str(save_text_model(tmp_path / "other.pth", seed=1))
    models = ["--weight", weight, "--text-weight", other]
    assert ends(capsys, ["--gallery", gallery, *models, *port], "holds features of toy-vit")


def test_a_port_in_use(options, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert ends(capsys, [*options, "--no-page", "--port", port], f"--port {port}: Address already in use")


@pytest.mark.parametrize("key", ["short", "0123456789 abcdef", "0123456789abcdé" * 2])
def test_a_key_that_is_none(options, capsys, monkeypatch, key):
    monkeypatch.setenv("CLIPREID_API_KEY", key)
    assert ends(capsys, options, "CLIPREID_API_KEY has")


def test_an_open_server_is_warned_about(caplog):
    for host, key, is_open in (
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("0.0.0.0", "", True),
        ("0.0.0.0", KEY, False),
    ):
        caplog.clear()
        serve._warn_if_open(host, key)
        assert ("without CLIPREID_API_KEY" in caplog.text) == is_open
