"""Lines as users parse them, one process that speaks, and a log file on a full disk."""

import io
import logging
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest

from utils.logger import WAITING, setup_logger, show_waiting, start_terminal
from utils.text import Lines

LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} transreid"


@pytest.fixture(autouse=True)
def former_handlers():
    logger = logging.getLogger("transreid")
    former = list(logger.handlers), logger.level, logger.propagate
    logger.handlers = []
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.level, logger.propagate = former


def log(message="hello", level=logging.INFO):
    logging.getLogger("transreid.processor").log(level, message)


def test_a_line(tmp_path):
    setup_logger(tmp_path, "log.txt")
    log("epoch é \udcff")
    written = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert re.fullmatch(rf"{LINE} INFO: epoch é \\udcff\n", written)


def test_handlers_are_set_once_and_the_file_grows(tmp_path, capsys):
    for _ in range(2):
        setup_logger(tmp_path, "log.txt")
        log()
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 2
    setup_logger(None, "")
    log()
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 2


def test_a_message_waits_on_the_terminal_only(tmp_path, capsys):
    logger = setup_logger(tmp_path, "log.txt")
    logger.info("settings of %s", "a\nb", extra=WAITING)
    log("data")
    assert re.fullmatch(rf"{LINE} INFO: data\n", capsys.readouterr().out)
    for _ in range(2):
        show_waiting()
    assert re.fullmatch(rf"{LINE} INFO: settings of a\\nb\n", capsys.readouterr().out)
    written = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.partition("INFO: ")[2] for line in written] == ["settings of a\\nb", "data"]


def test_other_processes_only_warn(tmp_path, capsys):
    setup_logger(tmp_path, "log.txt", rank=3)
    log()
    assert capsys.readouterr() == ("", "")
    log("a", logging.WARNING)
    log("b", logging.ERROR)
    told = capsys.readouterr()
    first, second = told.err.splitlines()
    assert told.out == "" and not list(tmp_path.iterdir())
    assert re.fullmatch(rf"\[process 3\] {LINE} WARNING: a", first)
    assert re.fullmatch(rf"\[process 3\] {LINE} ERROR: b", second)


@contextmanager
def full_disk(room):
    """Files of this process can not grow beyond `room` bytes."""
    resource = pytest.importorskip("resource")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_full_disk_is_one_warning(tmp_path, capsys):
    setup_logger(tmp_path, "log.txt")
    log("first")
    with full_disk(100):
        for number in range(5):
            log(f"line {number} {'.' * 60}")
    log("last")
    out, err = capsys.readouterr()
    assert err == ""
    lines = [line.partition(": ")[2] for line in out.splitlines()]
    (warning,) = (line for line in lines if "cannot be written" in line)
    assert warning == f"{tmp_path / 'log.txt'} cannot be written (File too large): the log goes on here only"
    assert [line.partition(" .")[0] for line in lines if line != warning] == [
        "first",
        *(f"line {number}" for number in range(5)),
        "last",
    ]
    assert (tmp_path / "log.txt").read_text().splitlines()[0].endswith("first")


def test_a_bug_in_a_message_is_not_taken_for_a_full_disk(tmp_path, capsys):
    logger = setup_logger(tmp_path, "log.txt")
    logger.info("%d epochs", "three")
    assert "TypeError" in capsys.readouterr().err
    log("after")
    assert "after" in (tmp_path / "log.txt").read_text()


def test_no_argument_begins_a_line(tmp_path, capsys):
    logger = setup_logger(tmp_path, "log.txt")
    name = "a\x1b[2J\n2026-01-01 00:00:00,000 transreid INFO: mAP: 99.9%\udcff"
    logger.warning("%s of\n%s", name, Lines(f"1\n{name}"))
    try:
        raise OSError(name)
    except OSError:
        logger.warning("%d files", 3, exc_info=True)
    written = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert capsys.readouterr().out == written
    assert re.findall(rf"^{LINE}.*", written, re.MULTILINE) == [
        written.splitlines()[0],
        next(line for line in written.splitlines() if line.endswith("3 files")),
    ]
    assert written.replace("\n", "").isprintable() and written.count(r"99.9%\udcff") == 3


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_shows_what_its_encoding_lacks(encoding, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", terminal)
    start_terminal()
    print("东 \udcff", file=terminal, flush=True)
    shown = {"ascii": r"\u4e1c \udcff", "utf-8": r"东 \udcff"}
    assert terminal.buffer.getvalue().decode(encoding) == shown[encoding] + "\n"


def test_before_the_log_is_set_up_warnings_are_escaped_too(monkeypatch):
    seen = io.StringIO()
    monkeypatch.setattr("sys.stderr", seen)
    start_terminal()
    logging.getLogger("transreid.x").propagate = False
    logging.getLogger("transreid.x").warning("%s", "a\x1bb\nc")
    assert seen.getvalue() == "a\\x1bb\\nc\n"


@pytest.mark.parametrize("ending", ["warnings.warn(name)", "raise TypeError(name)"])
def test_warnings_and_tracebacks_are_escaped(ending):
    name = "a\x1b[2J\n2026-01-01 00:00:00,000 transreid INFO: mAP: 99.9%"
    code = f"import warnings; from config.arguments import Parser; Parser(); name = {name!r}; {ending}"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert r"Warning: a\x1b[2J" in told or r"Error: a\x1b[2J" in told
    assert "\x1b" not in told and "\n 2026-01-01" in told
