"""What torchrun tells the processes that it starts, and that they end when it does. Imports no torch."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_logger = logging.getLogger("transreid")
_POLL = 1.0  # seconds
_GRACE = 30  # seconds, as many as torchrun gives its processes after a signal
_AT_ONCE = 1
# Read while the program starts: torch takes seconds to import, in which torchrun may end.
_STARTED = os.getpid(), os.getppid()


def launched_processes() -> int:
    """Number of processes that torchrun has started, 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))


def processes_here() -> int:
    """Number of processes that torchrun has started on this machine, 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def local_rank() -> int:
    """Number of this process on this machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0))


def restarts() -> int:
    """How often torchrun has restarted this run after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def launch_name() -> str:
    """A name that all attempts of one torchrun share: its run id, or else its process."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"process {os.getppid()}" if name in ("", "none") else name


@contextmanager
def ending_with_torchrun() -> Iterator[threading.Event]:
    """Send this process SIGTERM when the torchrun that started it has ended, while the context lasts.

    If it hangs then, in a GPU's collective for example, SIGALRM ends it after 30 seconds, or at once until
    the event that the context gives is set: it may wait for torchrun to connect it, and has nothing to lose.
    Without torchrun, and on Windows, where a process does not see the end of its parent, nothing happens.
    """
    works = threading.Event()
    if "TORCHELASTIC_RUN_ID" not in os.environ or not hasattr(signal, "pthread_kill"):
        yield works
        return
    process, parent = _STARTED
    parent = parent if process == os.getpid() else os.getppid()  # a fork has a parent of its own
    over = threading.Event()
    threading.Thread(target=_end_with, args=(parent, works, over), daemon=True).start()
    try:
        yield works
    finally:
        over.set()


def _end_with(parent: int, works: threading.Event, over: threading.Event) -> None:
    while os.getppid() == parent:
        if over.wait(_POLL):
            return
    _logger.warning("torchrun (process %d) has ended, so this process ends too", parent)
    signal.alarm(_GRACE if works.is_set() else _AT_ONCE)
    # To the main thread, which may wait in a system call.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
