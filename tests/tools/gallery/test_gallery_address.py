"""gallery.py from the first to the last command, in a folder and at a Milvus server, by the address only."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("pymilvus")

from tests.milvus_server import NO_SERVER, run_beside_server
from tests.retrieval.conftest import address  # noqa: F401, a fixture
from tests.tools.gallery.conftest import save_people
from tools import gallery


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_people(Path("people"))

    def run_program(*words):
        capsys.readouterr()
        assert gallery.main(list(words)) == 0
        return capsys.readouterr().out

    return run_program


def test_all_commands(run, address, weights):  # noqa: F811
    models = ["--weight", weights[0], "--text-weight", weights[2]]
    run("create", address, *models)
    add = ["add", address, "people", *models, "--workers", "0"]
    assert "9 new" in run(*add) and "9 already there, 0 updated" in run(*add)
    assert "9 already there, 9 updated" in run(*add, "--time", "2026-05-04T08:00")
    question = [
        "a man",
        "--image",
        "people/ben/ben_c2.png",
        "--exclude-camera",
        "c2",
        "--since",
        "2026-05-04",
    ]
    found = json.loads(run("search", address, *question, *models, "--json", "-"))["answers"]
    assert [len(answer["hits"]) for answer in found] == [6, 6]
    assert "both are one now" in run("rename", address, "anna", "ben")
    assert "9 features written" in run("export", address, "--out", "all.npz")
    assert "6 entries removed" in run("remove", address, "--identity", "ben", "--erase")
    assert "9 features added" in run("import", address, "all.npz")
    assert "index: hnsw" in run("index", address, "hnsw", "--recall", "3")
    assert "index: flat" in run("index", address, "flat")
    assert "written afresh" in run("compact", address)
    listed = json.loads(run("list", address, "--form", "json", "--identity", "ben"))
    assert len(listed) == 6 and {entry["camera"] for entry in listed} == {"c1", "c2", "c3"}
    found = json.loads(run("stats", address, "--json"))
    assert [space["entries"] for space in found["spaces"].values()] == [9, 3]
    assert found["identities"] == {"ben": 6, "carla": 3}


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.skipif(sys.platform != "linux", reason="the server runs in a namespace, which Linux has")
@pytest.mark.skipif("CLIPREID_TEST_MILVUS" in os.environ, reason="the test runs at a server as it is")
def test_all_commands_at_a_server(tmp_path):
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", str(tmp_path / "inside")]
    command = [sys.executable, "-m", "pytest", *options, __file__]
    done = run_beside_server(command, timeout=600)
    if done.returncode == NO_SERVER:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"^1 passed", done.stdout, re.MULTILINE)
