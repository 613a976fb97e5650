"""Requests to stop: the work at hand comes to a point where nothing is lost, then the program ends.

They are SIGTERM and SIGINT, on Windows SIGBREAK, too.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_logger = logging.getLogger("transreid")
STOPPING: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
if sys.platform == "win32":  # of Ctrl-Break and a window that is closed; another program can send it
    STOPPING += (signal.SIGBREAK,)


class StopRequest:
    """Remembers that the program was asked to stop, while `deferred` work goes on.

    Outside `deferred`, SIGTERM ends the program with status 143, SIGINT with KeyboardInterrupt. A second
    signal ends it at once everywhere, unless it comes within `patience` seconds of the first: torchrun passes
    on signals that its processes may have received themselves. `signal` is the number of the first, 0 for
    none.
    """

    DEFAULT = signal.SIGTERM  # for a process that hears of the signal from another one

    def __init__(self, patience: float = 0.0) -> None:
        self.signal = 0
        self._patience, self._asked_at = patience, 0.0
        self._deferring = False

    @property
    def name(self) -> str:
        """The signal's name, e.g. SIGTERM."""
        return signal.Signals(self.signal).name

    @property
    def status(self) -> int:
        """The exit status that shells give the signal: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.signal

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Handle the signals while the context lasts. Does nothing in a thread, where Python cannot."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._handle) for number in STOPPING}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Wrap work that checks `signal` itself, at moments when it can stop."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            if time.monotonic() - self._asked_at < self._patience:
                return
            os._exit(128 + number)
        self.signal, self._asked_at = number, time.monotonic()
        if self._deferring:
            _logger.warning("%s: stopping after this iteration; a second signal stops at once", self.name)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            _logger.warning("stopped by %s", self.name)
            raise SystemExit(self.status)


def leave_signals_to_parent(worker: int) -> None:
    """Take a loader's worker out of the program's process group, which Ctrl-C and batch systems signal.

    The program still wants batches of its workers then. For DataLoader's `worker_init_fn`.
    """
    del worker  # its number
    if hasattr(os, "setpgrp"):
        os.setpgrp()
        return
    for number in STOPPING:  # Windows sends those of the keyboard to all processes of a window
        signal.signal(number, signal.SIG_IGN)


def leave_dead_workers_to_loader() -> None:
    """Remove torch's handler of SIGCHLD, which raises wherever the program is when a worker has died.

    A loader checks its workers itself while it waits for a batch, when nothing is half done.
    """
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
