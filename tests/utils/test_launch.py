"""What torchrun tells its processes, and that they end when it does."""

import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from utils import launch


def test_what_torchrun_tells(monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    told = launch.launched_processes, launch.local_rank, launch.restarts
    assert [ask() for ask in told] == [1, 0, 0]
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert [ask() for ask in told] == [4, 3, 2]


# ---- the end of torchrun

LAUNCHER = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
time.sleep(60)
"""
CHILD = """
import os, signal, sys, time
from utils.launch import ending_with_torchrun
from utils.signals import StopRequest

{before}
with StopRequest(10).listening() as stop, ending_with_torchrun() as works:
    print(os.getpid(), flush=True)
    {work}
"""
WAITS = "time.sleep(60)"
FINISHES = """with stop.deferred():
        while not stop.signal: time.sleep(0.01)
        raise SystemExit(7)"""
HANGS = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); time.sleep(60)"


@pytest.fixture
def orphan(repository):
    """orphan(work) -> the process of a program whose launcher was killed while it works."""
    started = []

    def start(work, *, before="", **environment):
        command = [sys.executable, "-c", LAUNCHER, CHILD.format(before=before, work=work)]
        launcher = subprocess.Popen(
            command, cwd=repository, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        started.append(psutil.Process(int(launcher.stdout.readline())))
        launcher.kill()
        launcher.wait()
        launcher.stdout.close()
        return started[0]

    yield start
    for process in started:
        if process.is_running():
            process.kill()


def seconds_until_end(process, most=10.0):
    begun = time.monotonic()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() - begun > most:
            return most
        time.sleep(0.05)
    return time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize("work", [WAITS, FINISHES], ids=["at once", "at a moment that suits"])
def test_a_process_ends_with_torchrun(orphan, work):
    assert seconds_until_end(orphan(work, TORCHELASTIC_RUN_ID="none")) < 5


@pytest.mark.slow
@pytest.mark.parametrize(("works", "grace", "least"), [("works.set()", 4, 3), ("pass", 60, 0)])
def test_a_process_that_hangs_is_ended(orphan, works, grace, least):
    """Sooner while it still waits for the others to connect."""
    before = f"from utils import launch; launch._GRACE = {grace}"
    process = orphan(f"{works}; {HANGS}", before=before, TORCHELASTIC_RUN_ID="none")
    assert least < seconds_until_end(process, most=20) < 20


@pytest.mark.slow
def test_without_torchrun_a_process_survives_its_parent(orphan):
    assert seconds_until_end(orphan(WAITS), most=4) == 4


@pytest.mark.slow
def test_torchrun_that_ended_while_the_program_started(orphan):
    """The parent is read at the first import; what comes before the context takes seconds."""
    before = "print(os.getpid(), flush=True); sys.stdout = sys.stderr; time.sleep(1)"
    process = orphan(WAITS, before=before, TORCHELASTIC_RUN_ID="none")
    assert seconds_until_end(process) < 5


def test_nothing_is_watched_when_the_context_is_over(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr(launch, "_POLL", 0.01)
    with launch.ending_with_torchrun():
        before = threading.active_count()
    time.sleep(0.1)
    assert threading.active_count() == before - 1
