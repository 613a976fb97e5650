"""Feature files made to do harm or damaged by chance: arrays, or an error in one line that names the file."""

import io
import json
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import RetrievalTask
from tests.untrusted.surviving import LIMITS, nothing_else
from utils.untrusted.arrays import read_arrays

ARRAYS = {
    "features": np.eye(4, 3, dtype=np.float32),
    "pids": np.arange(4),
    "camids": np.zeros(4, np.int64),
    "paths": np.array(["a.jpg", "东门.jpg", "c.jpg", "d.jpg"]),
    "query_rows": np.array([0, 1]),
    "query_camids": np.array([0, 0]),
    "query_trials": np.array([0, 1]),
    "gallery_rows": np.array([2, 3]),
    "gallery_camids": np.array([1, 1]),
    "gallery_trials": np.array([0, 1]),
    "rules": np.array(["cross_camera", "all"]),
    "info": np.array(json.dumps({"size": [256, 128], "normalize": True, "weight": "\udcff.pth"})),
}


def saved(save=np.savez, **changes):
    buffer = io.BytesIO()
    save(buffer, **ARRAYS | changes)
    return buffer.getvalue()


def npy(shape, descr="<f4", content=b"", version=b"\x01\x00"):
    """One array's file, whose header may claim anything."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + content


def replaced(name, content, compression=zipfile.ZIP_STORED):
    """A whole feature file, of which one array's file is this content."""
    buffer = io.BytesIO(saved())
    with zipfile.ZipFile(buffer, "a", compression) as archive:
        archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def read(tmp_path, content):
    """What is in the file, or the error, without warnings, much time or much memory."""
    path = tmp_path / "features.npz"
    path.write_bytes(content)
    with nothing_else():
        try:
            return RetrievalTask.load(path)
        except ValueError as error:
            told = str(error)
            assert told.startswith(str(path)) and "\n" not in told and len(told) < 900
            return told


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            lambda: saved(np.savez_compressed, features=np.zeros((2**20, 2**8), np.float32)),
            "its parts are said",
        ),
        (lambda: replaced("features", npy((10**12, 3))), r"features.npy of shape \(1000000000000, 3\)"),
        (lambda: replaced("features", npy((-1, -1), content=b"1234")), "features.npy of shape"),
        (lambda: replaced("features", npy((9**400, 0))), "more items than bytes|features"),
        (lambda: replaced("paths", npy((10**12,), "<U0")), "more items than bytes"),
        (lambda: replaced("paths", npy((1,), "<U1", b"\xff" * 4)), "a letter that does not exist"),
        (lambda: replaced("paths", npy((4,), "<U1000000")), "does not have the"),
        (lambda: replaced("pids", npy((1,), "|O", b"." * 8)), "pids.npy holds object"),
        (lambda: replaced("pids", npy((1,), [("a", "<f4")], b"." * 4)), "pids.npy holds"),
        (lambda: replaced("pids", npy("(" * 900)), "features.npz"),
        (lambda: replaced("pids", npy("-" * 900 + "1")), "features.npz"),
        (lambda: replaced("pids", npy((1,), "x" * 5000)), "features.npz"),
        (lambda: replaced("pids", npy((1,), version=b"\x03\x00")), r"version \(3, 0\)"),
        (lambda: replaced("pids", npy((4,)), zipfile.ZIP_LZMA), "compressed in a way"),
        (lambda: saved(info=np.array("[" * 10**5)), "its info: Invalid JSON"),
        (lambda: saved(info=np.array('{"normalize": "no"}')), "its info: normalize is 'no'"),
        (lambda: saved(info=np.array('{"size": [1e9, 128]}')), "its info: size.0 is 1000000000.0"),
        (lambda: saved(info=np.array('{"size": [1000000000, 128]}')), "its info: size.0 is 1000000000"),
        (lambda: saved(info=np.array('{"pixel_std": [0, 1, 1]}')), "its info: pixel_std.0 is 0"),
        (lambda: saved(info=np.array('{"other": {"x": NaN}}')), "its info: other"),
        (lambda: saved(info=np.array("[" * 2**23)), "info has 8,388,608 characters"),
        (lambda: saved(names=np.array("[")), "its names: Invalid JSON"),
        (lambda: saved(trial_names=np.array(["zh", "zh"])), "trial_names has a name twice"),
        (lambda: saved(trial_names=np.array(["zh"])), "1 trial_names of 2 trials"),
        (lambda: saved(trial_names=np.array("zh")), "trial_names has shape"),
        (lambda: saved(info=np.array(5)), "info has shape .*int64"),
        (lambda: saved(info=np.array(["{}", "{}"])), "info"),
    ],
)
def test_what_a_file_only_claims_is_refused_at_once(tmp_path, content, told):
    found = read(tmp_path, content())
    assert isinstance(found, str) and re.search(told, found), found


def test_a_part_that_stands_for_many_is_refused(tmp_path):
    """Members of one place in the file: 100 claim its 4 MB each; of 2,000 the table is too long."""
    for copies, told in ((100, "its parts are said to have"), (2000, "its table of contents has")):
        assert told in read(tmp_path, with_copies(copies))


def with_copies(copies):
    content = bytearray(saved(features=np.zeros((4, 2**18), np.float32)))
    start = content.rindex(b"PK\x05\x06")
    first = content.index(b"PK\x01\x02")
    entry = bytes(content[first : content.index(b"PK\x01\x02", first + 1)])
    content[start + 8 : start + 12] = (len(ARRAYS) + copies).to_bytes(2, "little") * 2
    content[start + 12 : start + 16] = (start - first + copies * len(entry)).to_bytes(4, "little")
    content[start:start] = entry * copies
    return bytes(content)


def test_a_flipped_bit_is_found(tmp_path):
    content = bytearray(saved(features=np.ones((4, 1000), np.float32)))
    content[2000] ^= 4
    assert "CRC" in read(tmp_path, bytes(content))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["<", ">"])
def test_good_files_are_read(tmp_path, save, order):
    changes = {name: array.astype(array.dtype.newbyteorder(order)) for name, array in ARRAYS.items()}
    task = read(tmp_path, saved(save, **changes))
    assert task.info == {"size": [256, 128], "normalize": True, "weight": r"\udcff.pth"}
    assert task.images.features.tolist() == np.eye(4, 3).tolist() and task.images.paths[1] == "东门.jpg"
    assert [trial.gallery_rows.tolist() for trial in task.trials] == [[2], [3]]
    assert read_arrays(tmp_path / "features.npz", "").keys() == ARRAYS.keys()


@LIMITS
@given(data=st.data())
def test_files_that_were_damaged(tmp_path_factory, data):
    content = bytearray(saved())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    read(tmp_path_factory.getbasetemp(), bytes(content[:end]))


@LIMITS
@given(
    name=st.sampled_from([*ARRAYS]),
    value=st.one_of(
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=5),
        st.booleans(),
        st.lists(st.integers(-2, 10), max_size=5),
        st.lists(st.lists(st.floats(), min_size=2, max_size=2), max_size=4),
        st.lists(st.text(max_size=3), max_size=4),
    ),
)
def test_values_of_other_kinds(tmp_path_factory, name, value):
    try:
        content = saved(**{name: np.array(value)})
    except (ValueError, OverflowError, UnicodeError):  # NumPy cannot write it
        return
    read(tmp_path_factory.getbasetemp(), content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "normalize",
    "size",
    "stride",
    "pixel_mean",
    "pixel_std",
    "resize",
    "dataset",
    "model",
    "neck_feature",
)


@LIMITS
@given(info=st.dictionaries(st.sampled_from([*FIELDS, "other"]), JSON, max_size=4))
def test_info_of_other_kinds(tmp_path_factory, info):
    found = read(tmp_path_factory.getbasetemp(), saved(info=np.array(json.dumps(info))))
    assert isinstance(found, str) or json.dumps(found.info, allow_nan=False)
