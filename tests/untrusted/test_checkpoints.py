"""Any bytes given as weights: a state dict or an error in one line; nothing is run, nothing hangs."""

import pickle
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes
from torch import nn

from tests.untrusted.surviving import LIMITS, read_or_refuse
from tests.untrusted.weight_files import SCRIPT, WEIGHTS, saved, scripted, with_pickle, zipped
from utils.untrusted.torchscript import is_torchscript
from utils.weights import read_checkpoint, read_state_dict

PLAIN = {
    "new": (".pth", saved(WEIGHTS)),
    "old": (".pth", saved(WEIGHTS, _use_new_zipfile_serialization=False)),
    "torchscript": (".pt", scripted(nn.Linear(2, 3))),
    "safetensors": (".safetensors", safetensors_bytes(WEIGHTS)),
}


NAMES = (b"torch._utils\n_rebuild_tensor_v2", b"torch\nFloatStorage", b"collections\nOrderedDict")
NAMES += (b"torch\nTensor", b"__torch__\nM", b"torch.jit._pickle\nbuild_intlist")
NAMES += (b"easydict\nEasyDict",)
PICKLE_PARTS = [
    *(b"c" + name + b"\n" for name in NAMES),
    *(bytes([code]) for code in b"}])(t\x85\x86\x87uusaeRbQ\x81N02.\x94od1\x88"),
    *(
        b"\x80\x02",
        b"q\x00",
        b"h\x00",
        b"r\xff\xff\xff\x7f",
        b"K\x01",
        b"X\x01\0\0\0a",
        b"\x8a\xff",
        b"G\x7f",
    ),
]


@pytest.mark.parametrize("form", PLAIN)
def test_the_forms_are_read(tmp_path, capfd, form):
    suffix, content = PLAIN[form]
    got = read_or_refuse(tmp_path / f"w{suffix}", content, capfd)
    assert list(got) == (["weight", "bias"] if form == "torchscript" else list(WEIGHTS))


@pytest.mark.parametrize("form", PLAIN)
@LIMITS
@given(data=st.data())
def test_changed_bytes(tmp_path, capfd, form, data):
    suffix, content = PLAIN[form]
    changed = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        changed[place] = data.draw(st.integers(0, 255))
    read_or_refuse(tmp_path / f"w{suffix}", bytes(changed), capfd)


@pytest.mark.parametrize("form", PLAIN)
@LIMITS
@given(data=st.data())
def test_cut_and_lengthened_files(tmp_path, capfd, form, data):
    suffix, content = PLAIN[form]
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(0, len(content)))
    middle = data.draw(st.binary(max_size=64))
    read_or_refuse(tmp_path / f"w{suffix}", content[:start] + middle + content[stop:], capfd)


@LIMITS
@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x28\0\0\0\0\0\0\0{"]),
    rest=st.binary(max_size=300),
    suffix=st.sampled_from([".pth", ".safetensors"]),
)
def test_any_bytes(tmp_path, capfd, start, rest, suffix):
    assert isinstance(read_or_refuse(tmp_path / f"w{suffix}", start + rest, capfd), str)


@LIMITS
@given(
    text=st.lists(st.sampled_from(PICKLE_PARTS), max_size=40).map(b"".join),
    script=st.booleans(),
)
def test_any_pickle(tmp_path, capfd, text, script):
    content = with_pickle(b"\x80\x02" + text + b".", **(SCRIPT if script else {}))
    read_or_refuse(tmp_path / "w.pth", content, capfd)
    read_or_refuse(tmp_path / "w.pth", content, capfd, read=read_checkpoint)


class Call:
    """Unpickling this calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CALLS = {
    "system": lambda ran: Call(__import__("os").system, f"touch {ran}"),
    "exec": lambda ran: Call(exec, f"open({str(ran)!r}, 'w')"),
    "open": lambda ran: Call(open, str(ran), "w"),
    "jit": lambda ran: Call(torch.jit.load, str(ran)),
    "save": lambda ran: Call(torch.save, {}, str(ran)),
}


@pytest.mark.parametrize("wrap", ["zip", "old", "bare", "script"])
@pytest.mark.parametrize("call", CALLS)
def test_pickled_calls_are_not_run(tmp_path, capfd, call, wrap):
    evil = {"a": CALLS[call](tmp_path / "ran")}
    content = {
        "zip": lambda: saved(evil),
        "old": lambda: saved(evil, _use_new_zipfile_serialization=False),
        "bare": lambda: pickle.dumps(evil),
        "script": lambda: zipped({"data.pkl": pickle.dumps(evil, 2), "constants.pkl": b""}),
    }[wrap]()
    for read in (read_state_dict, read_checkpoint):
        assert "pickled code is never run" in read_or_refuse(tmp_path / "w.pth", content, capfd, read)
    assert not (tmp_path / "ran").exists()


class Restored(nn.Module):
    """TorchScript runs `__setstate__` when it loads."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.training = True

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return (self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        print("it ran")
        self.weight = state[0]
        self.training = state[1]


def test_torchscript_is_not_run(tmp_path, capfd):
    path = tmp_path / "w.pt"
    path.write_bytes(scripted(Restored()))
    assert is_torchscript(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(path)
    assert "it ran" in capfd.readouterr().out  # so there is something to refuse
    assert "holds a dict, not named tensors" in read_or_refuse(path, path.read_bytes(), capfd)
