"""`last.pt` made to do harm or damaged by chance: the run goes on, or an error in one line names the file."""

import copy
import itertools
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from processor.engine.loop import fit
from processor.engine.resume import read_snapshot
from tests.processor.recorder import batches, recorded_stage
from tests.untrusted.surviving import LIMITS, SECONDS

SHARED = torch.tensor([1.0]).expand(3)
ODD = [
    *(None, True, -1, 0, 2**60, 10**500, 1.5, float("nan"), float("inf"), "", "x", "\ud800", b"x"),
    *([], {}, (), [1], {"a": 1}, {1: 2}, ["\x1b[2J"]),
    *(torch.tensor(1.0), torch.tensor(-1.0), torch.ones(3), torch.ones(2, 2), SHARED, torch.tensor([1, 2])),
    *(
        torch.zeros(0),
        torch.tensor(float("nan")),
        torch.ones(2, dtype=torch.complex64),
        torch.ones(3).to_sparse(),
    ),
]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A folder, the content of a `last.pt` in the midst of a run, and a maker of its stage."""
    folder = tmp_path_factory.mktemp("run")

    def make():
        stage, run, _ = recorded_stage(folder, batches(1, 2, 3), epochs=3)
        object.__setattr__(stage, "optimizer", torch.optim.Adam(stage.optimizer.param_groups, fused=True))
        return stage, run

    stage, run = make()
    run.saver.every, run.saver.about = (
        1e-9,
        {"config": {"A.B": [1, 2.5], "C": None}, "launch": "x", "images": 8},
    )
    saved, save = [], run.saver.save
    run.saver.save = lambda *args: (save(*args), saved.append((folder / "last.pt").read_bytes()))
    fit(stage, run)
    (folder / "last.pt").write_bytes(saved[-4])
    content = torch.load(folder / "last.pt", weights_only=True)
    assert content["epoch"] == 3 and content["iteration"] == 1 and content["optimizer"]["state"]
    return folder, content, make


def go_on(setting, content):
    """Resume from the content; the message of the error, or None where the run came to its end."""
    folder, _, make = setting
    path = folder / "last.pt"
    torch.save(content, path)
    stage, run = make()
    start = time.monotonic()
    try:
        snapshot = read_snapshot(path)
        snapshot.restore_model(stage.objective)
        snapshot.rewind(run.saver.trackers)
        snapshot.restore_run(run.precision)
    except ValueError as error:
        told = str(error)
        assert str(path) in told and told.isprintable() and len(told) < 900
        assert time.monotonic() - start < SECONDS
        return told
    assert time.monotonic() - start < SECONDS
    try:
        fit(stage, run, snapshot if snapshot.progress is not None else None)
    except (ValueError, FloatingPointError) as error:
        assert "\n" not in str(error)
        return str(error)
    return None


def places(content, path=()):
    yield path
    entries = content.items() if isinstance(content, dict) else ()
    if isinstance(content, list | tuple):
        entries = list(enumerate(content))[:3]
    for key, value in entries:
        yield from places(value, (*path, key))


def changed(content, path, value):
    """A copy with another value at the path, or without it for `del`."""
    if not path:
        return value
    key, *rest = path
    if isinstance(content, tuple):
        return tuple(changed(list(content), path, value))
    content = copy.copy(content)
    if not rest and value is del_:
        content.pop(key)
    else:
        content[key] = changed(content[key], rest, value)
    return content


del_ = object()


def test_a_whole_file_goes_on(setting):
    assert go_on(setting, setting[1]) is None


def test_a_file_of_format_2_goes_on(setting):
    text = "A:\n  B: [1, 2.5]\nC: null\n"
    former = setting[1] | {"format": 2, "config": text}
    assert go_on(setting, former) is None
    torch.save(former, setting[0] / "last.pt")
    assert read_snapshot(setting[0] / "last.pt").state.config == {"A.B": [1, 2.5], "C": None}


LETTERS = "abcdefghijklmnopqrst"
BOMB = "a: &a [x, x]\n"
BOMB += "".join(f"{n}: &{n} [*{p}, *{p}, *{p}]\n" for p, n in itertools.pairwise(LETTERS))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("format",), torch.ones(2), "format 3"),
        (("format",), True, "format 3"),
        (("config",), BOMB, "stands for more than 10,000 values"),
        (("config",), "a: &a [*a]", "stands for more than 10,000 values"),
        (("config",), "[" * 10_000, "config is "),
        (("config",), "a: " + "1:" * 10**6 + "1", "characters; allowed"),
        (("config",), "a: !!int ''", "config is "),
        (("config", "A.B"), [[1]], "config.A.B"),
        (("epoch",), 0, "epoch is 0"),
        (("epoch",), "2", "epoch is '2'"),
        (("iteration",), -1, "iteration is -1"),
        (("iteration",), True, "iteration is True"),
        (("seconds",), float("nan"), "seconds is nan"),
        (("skipped",), 10**500, "skipped is 1000"),
        (("meters",), del_, "it has no meters of toy"),
        (("meters", "samples"), 1.5, "meters.samples is 1.5"),
        (("meters", "sums", "loss"), torch.ones(3), "meters.sums.loss"),
        (("random", "python", 1), (1, 2), "random.python.1"),
        (("random", "python", 0), 2, "random.python.0 is 2"),
        (("random", "numpy", 1), torch.full((624,), -1), "random.numpy.1"),
        (("random", "numpy", 2), 625, "random.numpy.2 is 625"),
        (("random", "torch"), torch.zeros(7, dtype=torch.uint8), "the generators"),
        (("trackers", "metrics.jsonl"), {}, "bytes"),
        (("trackers", "metrics.jsonl", "bytes"), -1, "bytes is -1"),
        (("trackers", "metrics.jsonl", "bytes"), "1", "bytes is '1'"),
        (("optimizer", "state", 0, "exp_avg"), torch.ones(2), "exp_avg"),
        (("optimizer", "state", 0, "exp_avg_sq"), del_, "exp_avg_sq"),
        (("optimizer", "state", 0, "step"), torch.tensor(-1.0), "optimizer.state.0.step"),
        (("optimizer", "state"), {7: {}}, "no parameter 7"),
        (("optimizer",), None, "no optimizer"),
        (("optimizer", "param_groups", 0, "params"), [0, 1, 2], "does not fit"),
        (("model", "weight"), torch.ones(3).to_sparse(), "model.weight"),
        (("finished",), ["\x1b[2J", 1], "finished.1 is 1"),
        (("stage",), 3, "stage is 3"),
        (("scaler",), {"scale": 0.0}, "scaler.scale is 0.0"),
        (("images",), torch.ones(2), "images"),
    ],
    ids=itertools.count(),
)
def test_what_is_wrong_is_named(setting, path, value, told):
    found = go_on(setting, changed(setting[1], path, value))
    assert found is not None and told in found, found


@LIMITS
@given(data=st.data())
def test_a_file_with_other_values(setting, data):
    content = setting[1]
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(places(content))))
        content = changed(content, path, data.draw(st.sampled_from([*ODD, del_])) if path else {})
    go_on(setting, content)
