"""What is done for Windows and macOS, with their calls played by others: the tests run on Linux, too."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path, PureWindowsPath

import pytest
import torch

from datasets import make_dataloader
from datasets.readers.custom import camera_marks
from tests.toys import save_noise
from tools.features.finding import find_images
from utils import distributed, files, limits, lock, signals, systems
from utils.files import append_line, write_atomically
from utils.text import Tally
from utils.untrusted import folders, plain
from utils.untrusted.folders import find_files


@pytest.fixture
def opened(monkeypatch):
    """The flags of files that are opened by number, with a bit for Windows' O_BINARY."""
    bit, seen, open_file = 1 << 60, {}, os.open

    def noted(path, given, *rest, **more):
        seen[Path(path).name] = bool(given & bit)
        return open_file(path, given & ~bit, *rest, **more)

    monkeypatch.setattr(os, "open", noted)
    for module in (files, lock, plain):
        monkeypatch.setattr(module, "BINARY", bit)
    return seen


def test_files_are_opened_for_their_bytes(opened, tmp_path):
    """Windows would change the ends of lines, and stop at byte 26."""
    append_line(tmp_path / "lines", "{}")
    write_atomically(tmp_path / "whole", lambda path: path.write_bytes(b"a\r\nb\x1ac"))
    assert plain.read_plain(tmp_path / "whole", 100) == b"a\r\nb\x1ac"
    with lock.locked(tmp_path / "held"):
        pass
    assert opened["lines"] and opened["whole"] and opened["held"]


def test_what_is_flushed_can_be_written_to(monkeypatch, tmp_path):
    """Windows flushes no file that is open for reading only."""
    modes = []
    monkeypatch.setattr(files, "flush", lambda number: modes.append(os.write(number, b"")))
    write_atomically(tmp_path / "whole", lambda path: path.write_bytes(b"x"))
    append_line(tmp_path / "lines", "{}")
    assert modes == [0, 0] and (tmp_path / "whole").read_bytes() == b"x"


def refusals(count):
    """A rename that is refused so often, as while another program reads the file."""
    left, replace = [PermissionError(13, "Access is denied")] * count, os.replace

    def rename(source, target):
        if left:
            raise left.pop()
        replace(source, target)

    return rename


def test_a_rename_waits_until_another_program_has_closed_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr(systems, "_WAITS", (0, 0))
    monkeypatch.setattr(os, "replace", refusals(2))
    write_atomically(tmp_path / "a", lambda path: path.write_text("new"))
    assert (tmp_path / "a").read_text() == "new"
    monkeypatch.setattr(os, "replace", refusals(3))
    with pytest.raises(OSError, match="a cannot be written: Access is denied; the former file is kept"):
        write_atomically(tmp_path / "a", lambda path: path.write_text("newer"))
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="there they are more")
def test_a_rename_that_is_refused_is_an_error_at_once_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "replace", refusals(1))
    with pytest.raises(OSError, match="a cannot be written"):
        write_atomically(tmp_path / "a", lambda path: path.write_text("new"))


def test_workers_without_groups_of_processes_ignore_the_keyboard(monkeypatch):
    monkeypatch.delattr(os, "setpgrp", raising=False)
    taken = {}
    monkeypatch.setattr(signal, "signal", lambda number, handler: taken.update({number: handler}))
    signals.leave_signals_to_parent(0)
    assert taken == dict.fromkeys(signals.STOPPING, signal.SIG_IGN)


def test_an_open_file_is_not_looked_for_where_it_cannot_be_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(lock.sys, "platform", "win32")
    monkeypatch.setattr(os.path, "samestat", lambda *states: False)  # numbers of files differ by call
    with open(tmp_path / "held", "wb") as file:
        assert lock._is_at(tmp_path / "held", file.fileno())


def test_processors_are_as_many_as_windows_can_wait_for(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    for platform, found in (("win32", 61), ("darwin", 128)):
        monkeypatch.setattr(sys, "platform", platform)
        assert limits.available_processors() == found


@pytest.mark.parametrize(("platform", "method"), [("linux", "fork"), ("darwin", None), ("win32", None)])
def test_workers_are_forked_on_linux_alone(monkeypatch, platform, method):
    module = sys.modules[make_dataloader.__module__]
    monkeypatch.setattr(module.sys, "platform", platform)
    assert module._fork() == method


def test_several_processes_on_gpus_need_nccl(monkeypatch):
    monkeypatch.setattr(distributed, "launched_processes", lambda: 2)
    monkeypatch.setattr(distributed.distributed, "is_nccl_available", lambda: False)
    told = "2 processes on GPUs need NCCL, .*; allowed: one process, or the CPU"
    with pytest.raises(ValueError, match=told), distributed.process_group(torch.device("cuda")):
        pass


def test_a_camera_stands_in_the_name_of_a_file_not_of_its_folder(monkeypatch):
    import ntpath

    assert camera_marks("shots_c9/anna_c1_01.jpg") == ["1"]
    monkeypatch.setattr(os.path, "basename", ntpath.basename)
    assert camera_marks(str(PureWindowsPath("D:/shots_c9/anna_c1_01.jpg"))) == ["1"]


def test_patterns_are_found_by_either_slash(monkeypatch, tmp_path):
    found = [save_noise(tmp_path / name) for name in ("a/b/1.jpg", "a/2.jpg")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sep", "\\")
    assert {(tmp_path / name).resolve() for name in find_images([r"a\**\*.jpg"])} == set(found)


def test_files_come_in_one_order(tmp_path, monkeypatch):
    """Windows' paths compare as if all letters were small."""
    for name in ("a.jpg", "B.jpg", "C/d.jpg", "c.jpg"):
        save_noise(tmp_path / name)
    names = [path.relative_to(tmp_path).as_posix() for path in find_files(tmp_path, {".jpg"}, Tally())]
    assert names == ["B.jpg", "C/d.jpg", "a.jpg", "c.jpg"]
    windows = sorted(map(PureWindowsPath, reversed(names)), key=folders._IN_ORDER)
    assert [path.as_posix() for path in windows] == names


def test_the_limit_of_open_files_is_raised_as_far_as_macos_allows(monkeypatch):
    """Its hard limit is none, and yet it refuses more than 10,240."""
    resource, now = pytest.importorskip("resource"), [256]

    def limit(kind, wanted):
        if wanted[0] > 10_240:
            raise ValueError("current limit exceeds maximum limit")
        now[0] = wanted[0]

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (now[0], resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", limit)
    assert limits.raise_file_limit() == now[0] == 10_240
    assert limits.allowed_workers(64) == 64


def test_this_system_has_a_start_method_for_its_workers():
    module = sys.modules[make_dataloader.__module__]
    assert module._fork() in (None, *multiprocessing.get_all_start_methods())
