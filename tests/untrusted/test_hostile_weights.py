"""Weight files that were made to do harm, one by one."""

import io
import itertools
import json
import pickle
import re
import struct
import tarfile
import time
import zipfile

import pytest
import torch

from tests.untrusted.surviving import nothing_else, read_or_refuse
from tests.untrusted.weight_files import SCRIPT, WEIGHTS, saved, with_pickle, zipped
from utils.weights import read_checkpoint, read_state_dict


def deep_script(levels):
    """Modules that stand twice in the one above."""
    text = b"".join(b"c__torch__\nM\n)\x81}(X\x01\0\0\0ah\x00X\x01\0\0\0bh\x00ubq\x00" for _ in range(levels))
    return zipped(
        {"data.pkl": b"\x80\x02Nq\x00" + text + b".", "constants.pkl": b"", "code/__torch__.py": b""}
    )


def bomb(member):
    """256 MB of zeros in a small file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl" if member != "data.pkl" else "a/version", pickle.dumps({}, 2))
        with archive.open(f"a/{member}", "w") as file:
            for _ in range(256):
                file.write(bytes(2**20))
    return stream.getvalue()


def fat_header(length):
    return struct.pack("<Q", length) + b'{"a": 1}'


def stated(header, content=b"\0" * 8):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("../storages", "storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return stream.getvalue()


def test_a_sparse_file_is_refused_at_once(tmp_path):
    path = tmp_path / "a.pth"
    with open(path, "wb") as file:
        file.truncate(2**40)
    start = time.monotonic()
    with pytest.raises(ValueError, match=re.escape(f"{path} is no checkpoint")):
        read_state_dict(path)
    assert time.monotonic() - start < 5


def lying_sizes(factor):
    """A zip file whose directory says that the numbers are many more."""
    content = bytearray(zipped({"data.pkl": pickle.dumps({}, 2), "version": "3", "data/0": b"\0" * 64}))
    place = content.rindex(b"PK\x01\x02") + 20
    content[place : place + 8] = struct.pack("<II", 64 * factor, 64 * factor)
    return bytes(content)


def number(multiple):
    """A number whose hash is 0."""
    return b"\x8a\x10" + (multiple * (2**61 - 1)).to_bytes(16, "little", signed=True)


def twins(count):
    """Tuples with one hash, because -1 and -2 have one."""
    either = b"J\xff\xff\xff\xff", b"J\xfe\xff\xff\xff"
    bits = itertools.islice(itertools.product(either, repeat=17), count)
    return [b"(" + b"".join(each) + b"t" for each in bits]


NUMBERS, TWINS = [number(each) for each in range(1, 100_001)], twins(30_000)
ORDERED, SET, LIST = b"ccollections\nOrderedDict\n", b"cbuiltins\nset\n", b"]("
SAME_HASH = {
    "numbers as keys": b"}(" + b"N".join(NUMBERS) + b"Nu.",
    "tuples as keys": b"}(" + b"N".join(TWINS) + b"Nu.",
    "keys one by one": b"}" + b"".join(key + b"Ns" for key in NUMBERS) + b".",
    "pairs of a dict": ORDERED + LIST + b"".join(key + b"N\x86" for key in NUMBERS) + b"e\x85R.",
    "counted": b"ccollections\nCounter\n" + LIST + b"".join(TWINS) + b"e\x85R.",
    "a set": SET + LIST + b"".join(NUMBERS) + b"e\x85R.",
    "sizes as keys": b"}(" + b"".join(b"ctorch\nSize\n" + key + b"\x85RN" for key in TWINS) + b"u.",
    "names of storages": LIST
    + b"".join(b"(X\x07\0\0\0storagectorch\nFloatStorage\n" + k + b"X\x03\0\0\0cpuK\0tQ" for k in TWINS)
    + b"e.",
    "copies of a list": SET + b"q\x00](" + b"K\x01" * 1000 + b"e\x85q\x01](" + b"h\x00h\x01R" * 9**5 + b"e.",
    "a list that grows in a tuple": b"]q\x01\x85q\x02]h\x01(" + b"".join(NUMBERS) + b"ee.",
    "a million tensors": b"](ctorch._utils\n_rebuild_tensor_v2\nq\x00" + b"h\x00)R" * 10**6 + b"e.",
    "many steps": b"](" + b"N" * 2_000_000 + b"e.",
}  # fmt: skip

HOSTILE = {
    "empty": (".pth", b""),
    "empty safetensors": (".safetensors", b""),
    "huge header": (".safetensors", fat_header(2**63)),
    "header of 100 GB": (".safetensors", fat_header(10**11)),
    "header of nothing": (".safetensors", fat_header(0)),
    "offsets": (".safetensors", stated({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**60]}})),
    "shape": (".safetensors", stated({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]}})),
    "no type": (".safetensors", stated({"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}})),
    "deep header": (".safetensors", fat_header(8 + 10**5) + b"[" * 10**5),
    "other zip": (".pth", zipped({"readme.txt": b"hello"})),
    "zip in a zip": (".pth", zipped({"data.pkl": saved(WEIGHTS)})),
    "climbing names": (".pth", zipped({"../../x": b"x", "data.pkl": pickle.dumps({}, 2)}, name="../../up")),
    "bomb": (".pth", bomb("data/0")),
    "bomb of a pickle": (".pth", bomb("data.pkl")),
    "lying sizes": (".pth", lying_sizes(2**20)),
    "tar": (".pth", tar()),
    "bytearray": (".pth", with_pickle(b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x10\x85R.")),
    "old bytearray": (".pth", b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x10\x85R."),
    "memo": (".pth", with_pickle(b"\x80\x02}r\xff\xff\xff\x7f.")),
    "script memo": (".pth", with_pickle(b"\x80\x02}r\xff\xff\xff\x7f.", **SCRIPT)),
    "wide key": (".pth", with_pickle(b"\x80\x02})q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"K\x01s.")),
    "copied key": (".pth", with_pickle(b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.", **SCRIPT)),
    "deep key": (".pth", with_pickle(b"\x80\x02})" + b"\x85" * 10**6 + b"K\x01s.")),
    "long key": (".pth", with_pickle(b"\x80\x02})" + b"\x85" * 1900 + b"K\x01s.")),
    "many marks": (".pth", with_pickle(b"\x80\x02" + b"N" * 10**5 + b"(t" * 10**5 + b".")),
    "deep list": (".pth", with_pickle(b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".")),
    "recursive": (".pth", with_pickle(b"\x80\x02}q\x00X\x05\0\0\0modelh\x00s.")),
    "doubling modules": (".pt", deep_script(60)),
    "long name": (".pth", saved({"a" * 10**6: torch.ones(1)})),
    "name of two lines": (".pth", saved({"a\nb\x1b[31m": torch.ones(1)})),
    "number as name": (".pth", saved({3: torch.ones(1)})),
    "text": (".pth", saved({"a": "x"})),
    "sparse": (".pth", saved({"a": torch.eye(3).to_sparse()})),
    "meta": (".pth", saved({"a": torch.ones(3, device="meta")})),
    "complex": (".pth", saved({"a": torch.ones(3, dtype=torch.complex64)})),
    "one number as many": (".pth", saved({"a": torch.ones(1).expand(10**12)})),
    "many views": (".pth", saved(dict.fromkeys(map(str, range(2000)), torch.ones(1).expand(10**6)))),
}  # fmt: skip


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("case", SAME_HASH)
def test_work_that_grows_faster_than_the_file(tmp_path, capfd, case, script):
    content = with_pickle(b"\x80\x02" + SAME_HASH[case], **(SCRIPT if script else {}))
    told = read_or_refuse(tmp_path / "w.pth", content, capfd, read_checkpoint)
    assert isinstance(told, str) and ("more than " in told or "it is broken" in told)


def test_what_grows_with_the_file_is_read(tmp_path, capfd):
    """Python 2's form of an ordered dict, as torch saved it, and small numbers as keys."""
    pairs = b"".join(b"](X\x02\0\0\0%02dK\x01e" % number for number in range(99))
    old = ORDERED + LIST + pairs + b"e\x85R."
    got = read_or_refuse(tmp_path / "w.pth", with_pickle(b"\x80\x02" + old), capfd, read_checkpoint)
    assert list(got) == [f"{number:02d}" for number in range(99)]
    state = {number: (number, -1) for number in range(50_000)} | {(1, 2): 3, 2**70: 4}
    assert read_or_refuse(tmp_path / "w.pth", saved(state), capfd, read_checkpoint) == state


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(tmp_path, capfd, case):
    suffix, content = HOSTILE[case]
    told = read_or_refuse(tmp_path / f"w{suffix}", content, capfd)
    assert isinstance(told, str) and " is no " in told
    read_or_refuse(tmp_path / f"w{suffix}", content, capfd, read_checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == [f"w{suffix}"]


def test_what_is_no_file(tmp_path, capfd):
    with nothing_else(capfd):
        for path in (tmp_path / "absent.pth", tmp_path / "absent.safetensors"):
            with pytest.raises(FileNotFoundError, match="no weights file at"):
                read_state_dict(path)
        for path in (tmp_path, "/dev/zero"):
            with pytest.raises(ValueError, match=f"{path} is a .*; allowed: a plain file"):
                read_state_dict(path)
