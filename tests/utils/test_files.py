"""Weight files are read without running anything, and written whole or not at all."""

import errno
import os
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.serialization import set_crc32_options

from utils.files import append_line, make_output_dir, save_torch, write_atomically
from utils.untrusted.torchscript import is_torchscript
from utils.weights import read_checkpoint, read_state_dict

WEIGHTS = {"a.weight": torch.arange(4.0), "b": torch.ones(2, 2)}


def assert_equal(got, want):
    assert list(got) == list(want)
    assert all(torch.equal(got[key], want[key]) for key in want)


@pytest.mark.parametrize(
    "wrap", [lambda w: w, lambda w: {"state_dict": w, "epoch": 3}, lambda w: {"model": w}]
)
def test_reads_plain_and_wrapped(tmp_path, wrap):
    torch.save(wrap(WEIGHTS), tmp_path / "w.pth")
    assert_equal(read_state_dict(tmp_path / "w.pth"), WEIGHTS)


def test_removes_module_prefix_only_when_all_have_it(tmp_path):
    torch.save({f"module.{key}": value for key, value in WEIGHTS.items()}, tmp_path / "w.pth")
    assert_equal(read_state_dict(tmp_path / "w.pth"), WEIGHTS)


def test_reads_safetensors_and_torchscript(tmp_path):
    save_file(WEIGHTS, tmp_path / "w.safetensors")
    assert_equal(read_state_dict(tmp_path / "w.safetensors"), WEIGHTS)
    module = nn.Linear(2, 3)
    torch.jit.trace(module, torch.zeros(1, 2)).save(tmp_path / "w.pt")
    assert is_torchscript(tmp_path / "w.pt")
    assert_equal(read_state_dict(tmp_path / "w.pt"), dict(module.state_dict()))


def scripted(path):
    torch.jit.trace(nn.Linear(64, 64), torch.zeros(1, 64)).save(path)


BIG = {"a": torch.arange(4096.0), "b": torch.ones(3, dtype=torch.float16)}
ZIPPED = {
    "w.pth": (lambda path: torch.save(BIG, path), read_state_dict),
    "last.pt": (lambda path: save_torch({"model": BIG, "epoch": 3}, path), read_checkpoint),
    "script.pt": (scripted, read_state_dict),
}


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("name", ZIPPED)
def test_a_flipped_bit_is_found_in_every_part(tmp_path, name, bit):
    write, read = ZIPPED[name]
    path = tmp_path / name
    write(path)
    read(path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.file_size and member.compress_type == 0]
    for member in members:
        header = member.header_offset
        names = sum(int.from_bytes(content[header + at : header + at + 2], "little") for at in (26, 28))
        changed = bytearray(content)
        changed[header + 30 + names + member.file_size // 2] ^= 1 << bit
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="is damaged, the checksum differs") as error:
            read(path)
        assert str(path) in str(error.value) and f"part {member.filename} " in str(error.value)
    assert len(members) >= 3


def test_files_without_checksums_are_read(tmp_path):
    set_crc32_options(False)
    try:
        torch.save(WEIGHTS, tmp_path / "w.pth")
    finally:
        set_crc32_options(True)
    assert_equal(read_state_dict(tmp_path / "w.pth"), WEIGHTS)


def test_values_that_are_no_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="'epoch' is not a tensor"):
        read_state_dict(tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds a list"):
        read_state_dict(tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError, match="no weights file at"):
        read_state_dict(tmp_path / "absent.pth")


def test_a_checkpoint_of_a_run_is_read_back(tmp_path):
    content = {"epoch": 3, "lr": [0.5, None], "names": ("a", True), "state": {0: {"step": torch.ones(2)}}}
    save_torch(content, tmp_path / "last.pt")
    got = read_checkpoint(tmp_path / "last.pt")
    assert torch.equal(got["state"][0].pop("step"), content["state"][0].pop("step")) and got == content
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_absent_checkpoints_of_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_checkpoint(tmp_path / "absent.pt")
    with pytest.raises(ValueError, match="is a folder"):
        read_checkpoint(tmp_path)


def test_interrupted_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "file"

    def fail(beside):
        beside.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError) as error:
        write_atomically(path, fail)
    assert str(error.value) == f"{path} cannot be written: No space left on device; no file was written"
    write_atomically(path, lambda beside: beside.write_text("first"))
    with pytest.raises(OSError) as error:
        write_atomically(path, fail)
    assert str(error.value) == f"{path} cannot be written: No space left on device; the former file is kept"
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_error_that_is_not_the_systems_stays_as_it_is(tmp_path):
    def fail(beside):
        beside.write_text("half")
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"):
        write_atomically(tmp_path / "file", fail)
    assert not list(tmp_path.iterdir())


@contextmanager
def full_disk(room):
    """Files of this process can not grow beyond `room` bytes: as on a full disk, writes fail or are cut."""
    resource = pytest.importorskip("resource")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def write_with_numpy(path, numbers):
    def write(beside):
        with open(beside, "wb") as file:
            np.savez(file, a=np.zeros(numbers))

    write_atomically(path, write)


WRITERS = {
    "torch": lambda path, numbers: save_torch({"a": torch.zeros(numbers)}, path),
    "torch, by path": lambda path, numbers: write_atomically(
        path, lambda beside: torch.save({"a": torch.zeros(numbers)}, beside)
    ),
    "numpy": write_with_numpy,
}


@pytest.mark.parametrize("room", [0, 50_000, 120_150], ids=["nothing", "the middle", "the end"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line(tmp_path, writer, room):
    path = tmp_path / "file.bin"
    reason = "torch's writer failed" if writer == "torch, by path" else "File too large"
    for kept in ("no file was written", "the former file is kept"):
        with full_disk(room), pytest.raises(OSError, match=r"^[^\n]*$") as error:
            WRITERS[writer](path, 30_000)
        assert str(error.value).startswith(f"{path} cannot be written: {reason}")
        assert str(error.value).endswith(kept)
        path.write_bytes(b"former")
    assert path.read_bytes() == b"former" and [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(OSError, match=r"gone/w\.pth cannot be written: No such file or directory; no file"):
        save_torch({}, tmp_path / "gone" / "w.pth")


def test_a_killed_write_is_replaced_by_the_next(tmp_path):
    child = os.fork()
    if not child:
        write_atomically(tmp_path / "w", lambda beside: (beside.write_text("half"), os._exit(9)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [p.name for p in tmp_path.iterdir()] == [".w.tmp"]
    write_atomically(tmp_path / "w", lambda beside: beside.write_text("whole"))
    assert [p.name for p in tmp_path.iterdir()] == ["w"] and (tmp_path / "w").read_text() == "whole"


def test_a_pipe_blocks_no_writer(tmp_path):
    os.mkfifo(tmp_path / ".w.tmp")
    write_atomically(tmp_path / "w", lambda beside: beside.write_text("whole"))
    assert [p.name for p in tmp_path.iterdir()] == ["w"] and (tmp_path / "w").read_text() == "whole"
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is a pipe; allowed: a plain file"):
        append_line(tmp_path / "metrics.jsonl", "x")


def test_a_link_under_the_hidden_name_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".w.tmp").symlink_to(tmp_path / "precious")
    write_atomically(tmp_path / "w", lambda beside: beside.write_text("whole"))
    assert (tmp_path / "precious").read_text() == "kept" and not (tmp_path / "w").is_symlink()


def test_lines_are_appended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, '{"a": 1}')
    append_line(path, "é")
    assert path.read_text(encoding="utf-8") == '{"a": 1}\né\n'
    with pytest.raises(ValueError, match="more than one line"):
        append_line(path, "a\nb")
    with pytest.raises(OSError, match=r"^.*gone/a: no line can be appended: No such file or directory$"):
        append_line(tmp_path / "gone" / "a", "x")


def test_a_line_on_a_full_disk_leaves_the_former_ones(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, "first")
    with full_disk(10), pytest.raises(OSError) as error:
        append_line(path, "too long for it")
    assert str(error.value) == f"{path}: no line can be appended: File too large"
    assert path.read_text() == "first\n"
    append_line(path, "second")
    assert path.read_text() == "first\nsecond\n"


def test_output_dir_must_be_writable(tmp_path):
    assert make_output_dir(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"path .*file is not writable"):
        make_output_dir(tmp_path / "file")
