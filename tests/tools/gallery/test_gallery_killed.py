"""gallery.py is killed or interrupted while it adds, with processes that load images; then it goes on."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("pymilvus")
pytest.importorskip("fcntl", reason="the system has no groups of processes")

from tests.processes import start_function
from tests.tools.gallery.slow_adding import main
from tests.toys import save_noise
from tools import gallery

_MANY = 150


@pytest.fixture
def command(tmp_path, weights, monkeypatch):
    """An empty gallery for both models, a folder with many pictures, and the command that adds them."""
    monkeypatch.chdir(tmp_path)
    first = save_noise(Path("many/anna/0.png"), 0)
    for number in range(1, _MANY):
        path = shutil.copy(first, f"many/anna/{number}.png")
        with open(path, "ab") as file:
            file.write(b"%d" % number)  # behind the picture's end: other bytes, other key
    models = ["--weight", weights[0], "--text-weight", weights[2]]
    assert gallery.main(["create", "g.db", *models]) == 0
    return ["add", "g.db", "many", *models, "--workers", "2", "--batch", "1"]


def wait_until_it_writes(process):
    before, end = disk(), time.monotonic() + 90
    while not Path("started").exists() or disk() < before + 8_000:
        assert process.is_alive() and time.monotonic() < end, Path("out").read_text()
        time.sleep(0.01)


def disk():
    """The bytes in the gallery, whose files come and go."""
    total = 0
    for path in Path("g.db").rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_same_command_goes_on(command, tmp_path, capsys, number):
    process = start_function(main, str(tmp_path), command)
    try:
        wait_until_it_writes(process)
        os.killpg(process.pid, number)  # as Ctrl-C does: the processes that load images get it, too
        process.join(60)
    finally:
        process.kill()
    shown = Path("out").read_text()
    if number != signal.SIGKILL:  # where a process that loads images may say that the others are gone
        assert "Traceback" not in shown
        assert process.exitcode == 128 + number, shown
        assert "the same command goes on from here" in shown

    def run(*words):
        capsys.readouterr()
        assert gallery.main(list(words)) == 0
        return capsys.readouterr().out

    kept = json.loads(run("stats", "g.db", "--json"))["named"][0]
    assert 0 < kept < _MANY
    assert f"{_MANY - kept} new, {kept} already there" in run(*command)
    found = json.loads(run("stats", "g.db", "--json"))
    assert found["named"] == [_MANY, _MANY, 1]
    assert {space["entries"] for space in found["spaces"].values()} == {_MANY}
