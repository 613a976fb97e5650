"""SIGTERM and SIGINT: what is at work is brought to a point where nothing is lost, then the program ends."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_logger = logging.getLogger("transreid")
STOPPING = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Remembers that the program was asked to stop, while the work that `deferred` holds together goes on.

    Elsewhere SIGTERM ends the program at once with status 143, as SIGINT does with KeyboardInterrupt; so does
    a second signal everywhere, unless it comes within `patience` seconds of the first. `signal` is the number
    of the first one, 0 as long as there is none.
    """

    DEFAULT = signal.SIGTERM  # what a process takes that hears of the signal from another one

    def __init__(self, patience: float = 0.0) -> None:
        self.signal = 0
        self._patience, self._asked_at = patience, 0.0
        self._deferring = False

    @property
    def name(self) -> str:
        """What the signal is called, e.g. SIGTERM."""
        return signal.Signals(self.signal).name

    @property
    def status(self) -> int:
        """The exit status that says which signal it was, as shells count: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.signal

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Handle the signals while the context lasts; outside the main thread, which alone can, nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        if self._patience:
            self._watch()
        before = {number: signal.signal(number, self._handle) for number in STOPPING}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Work that looks at `signal` itself, at moments when it can stop."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def _watch(self) -> None:
        """End the program when a signal has come that the main thread does not get to see in time.

        It is not given to Python while it waits in a library for a process that is gone.
        """
        ours, wakeups = socket.socketpair()
        wakeups.setblocking(False)
        signal.set_wakeup_fd(wakeups.fileno(), warn_on_full_buffer=False)

        def watch(kept: socket.socket = wakeups) -> None:
            while (number := ours.recv(1)[0]) not in STOPPING:
                pass
            time.sleep(self._patience)
            if not self.signal:
                os._exit(128 + number)

        threading.Thread(target=watch, daemon=True).start()

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
    """For a loader's worker process: leave the first of each signal, which a whole process group gets, to
    the program, which still wants batches of its workers. A second one ends the worker.

    So does the first that the program itself sends: multiprocessing sends one at exit and then waits.
    """
    del worker  # its number, which the loader passes
    if not hasattr(signal, "sigwaitinfo"):  # macOS, where nothing says who has sent a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    threading.Thread(target=_wait_for_signals, daemon=True).start()


def leave_dead_workers_to_loader() -> None:
    """Take back torch's handler of SIGCHLD, which raises wherever the program is when a worker has died.

    A loader looks after its workers itself while it waits for a batch, when nothing is half done.
    """
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _wait_for_signals() -> None:
    parent, seen = multiprocessing.parent_process(), set()
    while True:
        signaled = signal.sigwaitinfo(STOPPING)
        if signaled.si_pid == parent.pid:
            os._exit(0)  # another status would be an error to the loader
        if signaled.si_signo in seen:
            os._exit(128 + signaled.si_signo)
        seen.add(signaled.si_signo)
