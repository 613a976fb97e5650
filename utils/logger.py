"""The logger `transreid`, whose lines users parse: `time name level: message` to stdout and a file.

Arguments of a message cannot begin a line nor reach a terminal as control characters (`utils.text.filled`).
"""

import contextlib
import io
import logging
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, TextIO

import tqdm

from utils.text import Lines, filled
from utils.untrusted.plain import require_plain

_NAME = "transreid"
_FORMAT_WARNING = warnings.formatwarning
FORMAT = "%(asctime)s %(name)s %(levelname)s: %(message)s"
_WAITS = "waits"
WAITING = {_WAITS: True}  # `extra` of a message for which the terminal waits until `show_waiting`


class _Terminal(logging.StreamHandler):
    """Writes above a running progress bar instead of through it; some messages wait."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.waiting: list[logging.LogRecord] = []

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:
        if getattr(record, _WAITS, False):
            self.waiting.append(record)
            return record
        return super().handle(record)

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.tqdm.external_write_mode(file=self.stream):
            super().emit(record)

    def show_waiting(self) -> None:
        for record in self.waiting:
            super().handle(record)
        self.waiting.clear()


def show_waiting() -> None:
    """Show the messages on the terminal that wait there; a file has them from the beginning.

    An error before that stands alone, not behind pages of settings.
    """
    for handler in logging.getLogger(_NAME).handlers:
        if isinstance(handler, _Terminal):
            handler.show_waiting()


class _LogFile(logging.FileHandler):
    """A log file that stops with one warning when it cannot be written, not with many tracebacks."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logger = logging.getLogger(_NAME)
        logger.removeHandler(self)
        with contextlib.suppress(OSError):  # flushes, which fails again
            self.close()
        reason = error.strerror or type(error).__name__
        logger.warning("%s cannot be written (%s): the log goes on here only", self.baseFilename, reason)


def setup_logger(output_dir: str | Path | None, file_name: str, rank: int = 0) -> logging.Logger:
    """Log to stdout and append to `output_dir/file_name` if there is a folder; removes earlier handlers.

    `rank` is the number of this process in the run. Processes other than 0 only show warnings and errors, on
    stderr with their number in front. Raises OSError when the file cannot be opened, ValueError when it is no
    plain file.
    """
    logger = logging.getLogger(_NAME)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library may give the root logger a handler, which would repeat each line
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [_Terminal(sys.stderr if rank else sys.stdout)]
    if rank:
        handlers[0].setLevel(logging.WARNING)
    elif output_dir is not None:
        # File names may contain bytes that are not text.
        path = Path(output_dir) / file_name
        require_plain(path)
        handlers.append(_LogFile(path, encoding="utf-8", errors="backslashreplace"))
    for handler in handlers:
        handler.setFormatter(_Formatter(f"[process {rank}] {FORMAT}" if rank else FORMAT))
        logger.addHandler(handler)
    return logger


def start_terminal() -> None:
    """Let stdout, stderr, warnings and tracebacks show any name; a program calls it before its first output.

    Letters that the terminal's encoding lacks, and bytes that are no text, are escaped instead of an error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:  # shows warnings until, and where, there is no handler of ours
        logging.lastResort.setFormatter(_Formatter())
    warnings.formatwarning = lambda message, *rest: _FORMAT_WARNING(_escaped_lines(str(message)), *rest)
    sys.excepthook = lambda *error: sys.stderr.write(
        _escaped_lines("".join(traceback.format_exception(*error)))
    )


def _escaped_lines(text: str) -> str:
    return filled("%s", (Lines(text),))


def note_error(line: str) -> None:
    """Add the line with which a program ends to its log file, if it has one; the terminal shows it anyway."""
    logger = logging.getLogger(_NAME)
    record = logger.makeRecord(_NAME, logging.ERROR, "", 0, "%s", (line,), None)
    for handler in list(logger.handlers):
        if isinstance(handler, _LogFile):
            handler.handle(record)


class _Formatter(logging.Formatter):
    """Escapes arguments, and shows the first part of a logger's name: all published lines say `transreid`."""

    def format(self, record: logging.LogRecord) -> str:
        kept = record.name, record.msg, record.args
        try:
            record.msg, record.args = filled(record.msg, record.args or ()), ()
            record.name = record.name.partition(".")[0]
            return super().format(record)
        finally:
            record.name, record.msg, record.args = kept

    def formatException(self, ei: Any) -> str:
        return _escaped_lines(super().formatException(ei))
