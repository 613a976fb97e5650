"""The one logger, `transreid`, whose lines users parse: `time name level: message` to stdout and a file."""

import logging
import sys
from pathlib import Path

import tqdm

FORMAT = "%(asctime)s %(name)s %(levelname)s: %(message)s"


class _BarFriendlyHandler(logging.StreamHandler):
    """Writes above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def setup_logger(output_dir: str | Path | None, file_name: str) -> logging.Logger:
    """Log to stdout and, with an output folder, append to `output_dir/file_name`; earlier handlers go."""
    logger = logging.getLogger("transreid")
    logger.setLevel(logging.INFO)
    logger.propagate = False  # libraries may give the root logger a handler, which would repeat each line
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [_BarFriendlyHandler(sys.stdout)]
    if output_dir is not None:
        handlers.append(logging.FileHandler(Path(output_dir) / file_name, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(_NameOnly(FORMAT))
        logger.addHandler(handler)
    return logger


class _NameOnly(logging.Formatter):
    """Shows the root part of a logger's name: the published lines all say `transreid`."""

    def format(self, record: logging.LogRecord) -> str:
        full, record.name = record.name, record.name.partition(".")[0]
        try:
            return super().format(record)
        finally:
            record.name = full
