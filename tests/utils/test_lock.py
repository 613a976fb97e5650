"""One holder at a time, until it ends in any way."""

import errno
import os
import platform
import signal
import subprocess
import sys

import pytest

from utils.lock import locked

HOLDER = """
import os, sys, time
from pathlib import Path
from utils.lock import locked

with locked(Path(sys.argv[1])):
    if not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".train.lock"


def test_a_second_holder_is_refused_with_the_first_ones_name(path):
    with locked(path) as reason:
        assert reason == ""
        with pytest.raises(BlockingIOError) as caught, locked(path):
            pytest.fail("held twice")
        for word in (str(path.parent), f"process {os.getpid()} ", platform.node(), " since 20", "allowed:"):
            assert word in str(caught.value)
    assert sys.platform == "win32" or not list(path.parent.iterdir())
    with locked(path):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_killed_holder_blocks_nobody_though_what_it_forked_lives_on(path, repository):
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as holder:
        worker = int(holder.stdout.readline())
        try:
            with pytest.raises(BlockingIOError, match=f"process {holder.pid} "), locked(path):
                pytest.fail("held twice")
            holder.send_signal(signal.SIGKILL)
            os.waitpid(holder.pid, 0)
            os.kill(worker, 0)  # it lives
            assert f"process {holder.pid} " in path.read_text()
            with locked(path):
                assert f"process {os.getpid()} " in path.read_text()
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_holder_that_ends_between_opening_and_locking(path, monkeypatch):
    """The file that was opened is not the one that the next process finds."""
    fcntl = pytest.importorskip("fcntl")
    flock = fcntl.flock

    def late(*given):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(*given)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(path), pytest.raises(BlockingIOError, match="in use"), locked(path):
        pytest.fail("held twice")


@pytest.mark.skipif(sys.platform == "win32", reason="nobody removes an open file there")
def test_a_folder_that_was_removed_and_made_anew_keeps_its_new_lock(path):
    with locked(path):
        path.unlink()
        with locked(path):
            pass
        path.write_text("of another")
    assert path.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks(path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(path) as reason:
        assert reason == os.strerror(number)


def test_what_is_no_plain_file_is_refused_by_name(path, tmp_path):
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"\.train\.lock is a pipe"), locked(path):
        pass
    path.unlink()
    other = tmp_path / "precious"
    other.write_text("kept")
    path.symlink_to(other)
    with pytest.raises(OSError, match=r"\.train\.lock cannot be opened"), locked(path):
        pass
    assert other.read_text() == "kept"


def test_a_name_in_the_file_cannot_reach_a_terminal(path):
    with locked(path):
        path.write_bytes(b"process 1 on \x1b[31mhost\nmAP: 99.9%" + b"x" * 1000)
        with pytest.raises(BlockingIOError, match=r"\\x1b\[31mhost\\nmAP") as caught, locked(path):
            pass
    assert len(str(caught.value)) < 600
