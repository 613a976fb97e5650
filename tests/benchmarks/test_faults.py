"""The harness of the table of faults; tests/processor/engine tests the same promises of runs."""

import json
import subprocess
import sys

import psutil
import pytest
import torch

from benchmarks.faults.__main__ import main
from benchmarks.faults.numbers import largest_difference
from benchmarks.faults.rows import judge, line_problem, place_in_words, table, unless
from benchmarks.faults.runs import Ended, differences, unreadable
from benchmarks.faults.soak import is_flat, memory

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="faults are made with what Linux has")
SECONDS = 240


@pytest.mark.slow
@pytest.mark.slow
@linux_only
def test_stopped_runs_as_a_user_sees_them(repository, tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.faults",
        "--only",
        "stop",
        "bits",
        "--json",
        str(tmp_path / "rows"),
    ]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=SECONDS)
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert done.returncode == 0, done.stderr
    assert all(row["ok"] for row in rows)
    lines = done.stdout.splitlines()
    assert lines[0] == "| fault | outcome | as it should be |"
    assert lines[2:] == [f"| {row['fault']} | {row['outcome']} | yes |" for row in rows]
    outcomes = {row["fault"]: row["outcome"] for row in rows}
    assert "status 143" in outcomes["SIGTERM in an epoch"] and "status 130" in outcomes["SIGINT in an epoch"]


@pytest.mark.parametrize("options", [["--only", "flood"], ["--kills", "-1"], ["--only", "soak"]])
def test_wrong_options_are_refused(options):
    with pytest.raises(SystemExit, match="2"):
        main(options)


# ---- rows


def test_a_problem_takes_the_place_of_its_fact():
    good = judge("disk", "disk full", ("status 2", ""), ("", unless(True, "bad")))
    bad = judge("disk", "disk full", ("status 2", ""), ("resumed, equal", "differs"), ("", ""))
    assert (good.outcome, good.ok) == ("status 2", True)
    assert (bad.outcome, bad.ok) == ("status 2; PROBLEM: differs", False)
    assert table([good, bad]).splitlines()[2:] == [
        "| disk full | status 2 | yes |",
        "| disk full | status 2; PROBLEM: differs | **no** |",
    ]


@pytest.mark.parametrize(
    ("err", "problem"),
    [
        ("error: a.jpg: gone\n", ""),
        ("error: b.jpg: gone\n", "a.jpg not in"),
        ("Traceback\nerror: a.jpg\n", "2 lines"),
        ("", "0 lines"),
    ],
)
def test_errors_are_one_line(err, problem):
    told = line_problem(Ended(2, 1.0, "", err), "a.jpg")
    assert (problem in told) and bool(told) == bool(problem)


def test_place_in_words():
    assert place_in_words(("stage2", 3, 4)) == "last.pt at stage2, epoch 3, iteration 4"
    assert (place_in_words(("", 0, 0)), place_in_words(None)) == ("last.pt finished", "no last.pt")


# ---- comparing runs


@pytest.fixture
def folder(tmp_path):
    """folder('a', weight=1.0, loss=2.0) -> what a run with that weight and loss left."""

    def make(name, *, weight=1.0, loss=2.0, seconds=1.0):
        path = tmp_path / name
        path.mkdir()
        torch.save({"w": torch.tensor([weight, 0.0])}, path / "toy_2.pth")
        record = {"stage": "stage2", "epoch": 2, "loss": loss, "loss_id": loss / 2, "seconds": seconds}
        (path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
        return path

    return make


def test_differences_are_to_the_bit_but_for_times(folder):
    first = folder("a")
    assert differences(folder("b", seconds=9.0), first) == []
    # One bit of a weight, then the sign of a zero.
    assert differences(folder("c", weight=1.0 + 2**-23), first) == ["toy_2.pth"]
    other = folder("d", loss=2.5)
    torch.save({"w": torch.tensor([1.0, -0.0])}, other / "toy_2.pth")
    (other / "toy_4.pth").write_bytes(b"")
    assert differences(other, first) == ["toy_4.pth only in one", "toy_2.pth", "metrics.jsonl"]


def test_largest_difference_of_losses(folder):
    first = folder("a")
    assert largest_difference(folder("b", loss=2.25), first) == 0.25
    shorter = folder("c")
    (shorter / "metrics.jsonl").write_text("")
    assert largest_difference(shorter, first) == float("inf")


def test_broken_files_are_named(folder):
    path = folder("a")
    (path / "config.yml").write_text("A: 1")
    (path / ".last.pt.tmp").write_bytes(b"half")
    assert unreadable(path) == [] == unreadable(path / "absent")
    data = (path / "toy_2.pth").read_bytes()
    (path / "last.pt").write_bytes(data[: len(data) // 2])
    (path / "metrics.jsonl").write_text('{"stage": "sta')
    (path / "config.yml").write_text("")
    assert [line.split(":")[0] for line in unreadable(path)] == ["config.yml", "last.pt", "metrics.jsonl"]


# ---- memory


@pytest.mark.parametrize(
    ("slope", "error", "flat"),
    [(4.9, 0.1, True), (5.1, 0.1, False), (5.1, 3.0, True), (-50.0, 1.0, True), (500.0, 100.0, False)],
)
def test_flat_memory(slope, error, flat):
    assert is_flat(slope, error) is flat


@linux_only
def test_memory_counts_children():
    code = "import time; x = bytearray(200_000_000); print(flush=True); time.sleep(60)"
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    process = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        assert 200 < memory(process.pid) < 400
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.wait()
        process.stdout.close()
