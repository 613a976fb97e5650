"""The program takes SIGTERM and SIGINT at moments that suit it, and its workers do not take them."""

import subprocess
import sys
import textwrap

import pytest

HEAD = """
import logging, multiprocessing, os, signal, subprocess, sys, threading, time
from signal import SIGINT, SIGTERM, raise_signal
from utils.signals import StopRequest, leave_signals_to_parent

def say(*words):
    print(*words, flush=True)

stop = StopRequest()
"""
SIGNALS = [("SIGTERM", 143), ("SIGINT", 130)]


@pytest.fixture
def run(repository):
    """run(script) -> (exit status, the lines it said, its standard error), in a session of its own."""

    def start(script):
        result = subprocess.run(
            [sys.executable, "-c", HEAD + textwrap.dedent(script)],
            cwd=repository,
            capture_output=True,
            text=True,
            timeout=60,
            start_new_session=True,
        )
        return result.returncode, result.stdout.splitlines(), result.stderr

    return start


def test_no_signal(run):
    script = """
    with stop.listening() as listener, stop.deferred():
        say(listener is stop, stop.signal)
    """
    assert run(script) == (0, ["True 0"], "")


@pytest.mark.parametrize(("name", "status"), SIGNALS)
def test_deferred_work_goes_on_after_a_signal(run, name, status):
    code, said, errors = run(f"""
    with stop.listening():
        with stop.deferred():
            raise_signal({name})
            say("goes on", stop.signal == {name}, stop.name, stop.status)
        say("ends well", stop.signal == {name})
    """)
    assert (code, said) == (0, [f"goes on True {name} {status}", "ends well True"])
    assert errors == f"{name}: stopping after this iteration; a second signal stops at once\n"


def test_a_signal_from_outside_ends_a_wait_within_deferred_work(run):
    code, said, _ = run("""
    with stop.listening(), stop.deferred():
        subprocess.Popen(["kill", "-TERM", str(os.getpid())])
        while not stop.signal:
            time.sleep(0.01)
        say(stop.name)
    """)
    assert (code, said) == (0, ["SIGTERM"])


@pytest.mark.parametrize("first", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(("second", "status"), SIGNALS)
def test_a_second_signal_ends_deferred_work_at_once(run, first, second, status):
    code, said, _ = run(f"""
    with stop.listening():
        try:
            with stop.deferred():
                raise_signal({first})
                say("once")
                raise_signal({second})
                say("twice")
        finally:
            say("cleaned up")
    """)
    assert (code, said) == (status, ["once"])


def test_sigterm_elsewhere_ends_the_program(run):
    code, said, errors = run("""
    with stop.listening():
        with stop.deferred():
            pass
        try:
            raise_signal(SIGTERM)
            say("goes on")
        finally:
            say("cleaned up", stop.status)
    """)
    assert (code, said, errors) == (143, ["cleaned up 143"], "stopped by SIGTERM\n")


def test_sigint_elsewhere_is_a_keyboard_interrupt(run):
    code, said, errors = run("""
    try:
        with stop.listening():
            raise_signal(SIGINT)
            say("goes on")
    except KeyboardInterrupt:
        say("interrupted", stop.status)
    """)
    assert (code, said, errors) == (0, ["interrupted 130"], "")


def test_an_error_ends_what_is_deferred(run):
    code, said, _ = run("""
    with stop.listening():
        try:
            with stop.deferred():
                raise ValueError
        except ValueError:
            raise_signal(SIGTERM)
        say("goes on")
    """)
    assert (code, said) == (143, [])


@pytest.mark.parametrize(("second", "status"), SIGNALS)
def test_a_second_signal_ends_the_end_at_once(run, second, status):
    code, said, _ = run(f"""
    with stop.listening():
        try:
            raise_signal(SIGTERM)
        finally:
            say("cleaning")
            raise_signal({second})
            say("cleaned")
    """)
    assert (code, said) == (status, ["cleaning"])


@pytest.mark.parametrize("body", ["pass", "raise ValueError", "with stop.deferred(): raise_signal(SIGTERM)"])
def test_handlers_are_as_before_afterwards(run, body):
    code, said, _ = run(f"""
    def mine(number, frame):
        say("mine")

    signal.signal(SIGINT, mine)
    before = [signal.getsignal(number) for number in (SIGTERM, SIGINT)]
    try:
        with stop.listening():
            say([signal.getsignal(number) for number in (SIGTERM, SIGINT)] == before)
            {body}
    except ValueError:
        pass
    say([signal.getsignal(number) for number in (SIGTERM, SIGINT)] == before == [signal.SIG_DFL, mine])
    raise_signal(SIGINT)
    raise_signal(SIGTERM)
    """)
    assert (code, said) == (-15, ["False", "True", "mine"])


def test_outside_the_main_thread_nothing_happens(run):
    code, said, errors = run("""
    def work():
        with stop.listening() as listener, stop.deferred():
            say(listener is stop, [signal.getsignal(number) for number in (SIGTERM, SIGINT)] == before)

    before = [signal.getsignal(number) for number in (SIGTERM, SIGINT)]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    say([signal.getsignal(number) for number in (SIGTERM, SIGINT)] == before, stop.signal)
    """)
    assert (code, said, errors) == (0, ["True True", "True 0"], "")


def test_a_signal_that_is_passed_on_at_once_does_not_count_twice(run):
    code, said, _ = run("""
    stop = StopRequest(patience=1.0)
    with stop.listening(), stop.deferred():
        raise_signal(SIGTERM)
        raise_signal(SIGTERM)
        say("goes on")
        time.sleep(1.5)
        raise_signal(SIGTERM)
        say("never")
    """)
    assert (code, said) == (143, ["goes on"])


# ---- workers of a loader

LOADER = """
from torch.utils.data import DataLoader
loader = DataLoader(range(100), num_workers=2, worker_init_fn=leave_signals_to_parent)

def signal_group(number):
    os.killpg(os.getpgrp(), number)
    time.sleep(0.1)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), SIGNALS)
def test_workers_go_on_after_a_signal_to_the_process_group(run, name, status):
    """As Ctrl-C sends it; the program then ends without waiting for them."""
    code, said, errors = run(f"""{LOADER}
with stop.listening():
    batches = iter(loader)
    with stop.deferred():
        next(batches), next(batches)  # one of each worker
        signal_group({name})
        say(sum(1 for _ in batches), stop.name)
    batches = iter(loader)
    next(batches)
    raise SystemExit(stop.status)
""")
    assert (code, said) == (status, [f"98 {name}"])
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_workers_end_with_a_program_that_is_killed(run):
    """Though they are not in its process group: `run` waits until nobody holds its streams."""
    assert (
        run(f"""{LOADER}
batches = iter(loader)
next(batches)
signal_group(signal.SIGKILL)
""")[0]
        == -9
    )
