"""Repositories on a hub, a stub on 127.0.0.1: fetched, kept, uploaded, and errors of one line each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import REVISIONS, serving
from utils.hub import find_weights

pytestmark = pytest.mark.service
FILES = {"model.safetensors": b"weights", "config.json": b"{}", "README.md": b"# A model"}


@pytest.fixture
def hub():
    with serving() as server:
        yield server


@pytest.fixture
def call(hub, repository, tmp_path):
    """call("find_weights('a')") -> what it gives or raises, in its own process: HF_ENDPOINT is read once."""
    environment = {**os.environ, **hub.environment(tmp_path / "home")}

    def run(expression):
        hub.seen.clear()
        lines = ("from utils.hub import *", "try:", f"    print({expression})", "except Exception as error:")
        code = "\n".join([*lines, "    print(type(error).__name__, error)"])
        words, options = [sys.executable, "-c", code], {"cwd": repository, "env": environment}
        done = subprocess.run(words, **options, capture_output=True, text=True, check=True)
        assert done.stdout.count("\n") == 1, done.stdout
        return done.stdout.strip()

    return run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, content in {**FILES, "notes.txt": b"private"}.items():
        (tmp_path / "folder" / name).write_bytes(content)
    return tmp_path / "folder"


def test_a_repository_is_made_filled_and_fetched_once(hub, call, folder):
    address = call(f"push_folder({str(folder)!r}, 'org/name', private=True)")
    assert address == f"{hub.address}/org/name/commit/{REVISIONS['main']}"
    assert hub.repos == {"org/name": FILES}  # not the notes
    assert hub.private == {"org/name"}
    call(f"push_folder({str(folder)!r}, 'org/name')")  # it is there already
    first = call("find_weights('hf-hub:org/name')")
    with open(first, "rb") as file:
        assert file.read() == b"weights"
    assert {f"GET /org/name/resolve/{REVISIONS['main']}/{name}" for name in list(FILES)[:2]} <= {*hub.seen}
    assert not any("README" in line for line in hub.seen)
    assert call("find_weights('hf-hub:org/name')") == first
    assert hub.seen == ["GET /api/models/org/name/revision/main"]
    assert REVISIONS["v1"] in call("find_weights('hf-hub:org/name@v1')")
    assert call("find_weights('hf-hub:org/name') == find_weights('hf-hub:org/name')") == "True"
    assert len(hub.seen) == 1
    hub.shutdown()
    hub.server_close()
    assert call("find_weights('hf-hub:org/name')") == first  # without the hub, what was kept


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("org/gone", "FileNotFoundError hf-hub:org/gone: no such repository"),
        ("org/name@v9", "FileNotFoundError hf-hub:org/name@v9: no such revision"),
        ("org/bare", "FileNotFoundError hf-hub:org/bare has no model.safetensors"),
        ("a b/c/d", "ValueError hf-hub:a b/c/d is no repository's name"),
        ("", "ValueError hf-hub: is no repository's name"),
        ("org/closed", "OSError hf-hub:org/closed is not in the cache"),
    ],
)
def test_what_a_hub_does_not_give(hub, call, name, told):
    hub.repos |= {"org/name": FILES, "org/bare": {"config.json": b"{}"}}
    hub.refused.add("org/closed")
    error = call(f"find_weights('hf-hub:{name}')")
    assert error.startswith(told) and hub.address in error


def test_what_a_hub_does_not_take(hub, call, folder):
    hub.refused.add("org/name")
    error = call(f"push_folder({str(folder)!r}, 'org/name')")
    assert error.startswith(f"PermissionError org/name: {hub.address} refuses (status 403)")
    error = call(f"push_folder({str(folder)!r}, 'a b/c/d')")
    assert error.startswith("ValueError a b/c/d is no repository's name") and hub.address in error
    (folder / "README.md").unlink()
    error = call(f"push_folder({str(folder)!r}, 'org/name')")
    assert error.startswith(f"FileNotFoundError {folder} has no README.md") and not hub.seen


def test_a_hub_that_is_not_there(hub, call, folder):
    hub.shutdown()
    hub.server_close()
    for expression in ("find_weights('hf-hub:org/name')", f"push_folder({str(folder)!r}, 'org/name')"):
        error = call(expression)
        assert error.startswith("OSError") and "org/name" in error and hub.address in error


def test_an_empty_path_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert find_weights("") == Path("")
    with pytest.raises(FileNotFoundError):
        find_weights("local-dir:")


@pytest.mark.parametrize(
    "name", ["open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"]
)
def test_weights_under_other_names_come_with_their_tokenizer(hub, call, tmp_path, name):
    files = {name: b"weights", "tokenizer.json": b"{}", "open_clip_config.json": b"{}"}
    hub.repos["org/other"] = files
    found = Path(call("find_weights('hf-hub:org/other')"))
    assert found.name == name and found.with_name("tokenizer.json").is_file()
    assert find_weights(found.parent) == found
    assert find_weights(tmp_path / "home" / "hub") == found  # a cache
    assert find_weights(tmp_path / "home" / "hub" / "models--org--other") == found


def test_a_cache_of_several_repositories_or_snapshots_asks_for_one(tmp_path):
    for repo, snapshot in (("models--a--b", "x"), ("models--a--c", "x"), ("models--a--c", "y")):
        (tmp_path / repo / "snapshots" / snapshot).mkdir(parents=True)
    with pytest.raises(ValueError, match="has 2 repositories; allowed: one of models--a--b, models--a--c"):
        find_weights(tmp_path)
    with pytest.raises(ValueError, match="has 2 snapshots; allowed: one, of x, y"):
        find_weights(tmp_path / "models--a--c")
