"""Weight files are read without running anything, and written whole or not at all."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from utils.files import is_torchscript, make_output_dir, read_state_dict, write_atomically

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


class Payload:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickled_code_is_refused_and_not_run(tmp_path, save):
    save({"a": Payload(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth is no checkpoint .*pickled code"):
        read_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no checkpoint"),
        (b"some text", "is no checkpoint"),
        (b"PK\x03\x04 broken", "is no checkpoint"),
        (b"\x89PNG\r\n\x1a\n", "is no checkpoint"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files_are_one_line_errors(tmp_path, content, message, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        read_state_dict(path)
    assert "is no" in str(error.value) and path.name in str(error.value)


def test_truncated_checkpoint(tmp_path):
    torch.save(WEIGHTS, tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is no checkpoint"):
        read_state_dict(tmp_path / "w.pth")


def test_values_that_are_no_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="'epoch' is not a tensor"):
        read_state_dict(tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds a list"):
        read_state_dict(tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError, match="no weights file at"):
        read_state_dict(tmp_path / "absent.pth")


def test_interrupted_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda beside: beside.write_text("first"))

    def fail(beside):
        beside.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_output_dir_must_be_writable(tmp_path):
    assert make_output_dir(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"OUTPUT_DIR .*file.* is not writable"):
        make_output_dir(tmp_path / "file")
