"""Kills one of two processes that torchrun has started, or torchrun itself."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.faults.numbers import together
from benchmarks.faults.rows import EQUAL, Row, equality_problem, judge, place_in_words, unless
from benchmarks.faults.runs import TIMEOUT, Bench, differences, progress, read_records, require_success
from benchmarks.measure import ROOT

_CHANGED = {"SOLVER.STAGE1.MAX_EPOCHS": 2, "MAIN.MAX_EPOCHS": 40, "MAIN.CHECKPOINT_PERIOD": 20}
_CHANGED |= {"MAIN.EVAL_PERIOD": 20}
_LINES = 4  # of metrics.jsonl, two of them of stage 2, before the kill


def rank(bench: Bench) -> Iterator[Row]:
    """Without and with torchrun's restart."""
    reference = bench.folder("two-processes")
    for ended in together(bench, reference, _CHANGED, 2):
        require_success(ended)
    folder = bench.folder("rank")
    status, seconds = _killed(bench, folder, [])
    with Torchrun(bench, folder, [], ["--resume"]) as torchrun:
        resumed = torchrun.wait()
    different = differences(folder, reference) if resumed == 0 else [f"its status {resumed}"]
    yield judge(
        "rank",
        "one of two processes killed",
        _ended(status, seconds, 1),
        (EQUAL, equality_problem(different)),
    )
    folder = bench.folder("rank")
    status, seconds = _killed(bench, folder, ["--max_restarts", "1"])
    yield judge(
        "rank",
        "one of two processes killed, --max_restarts 1",
        _ended(status, seconds, 0),
        ("done by itself, equal", equality_problem(differences(folder, reference) if status == 0 else [])),
    )


def orphans(bench: Bench) -> Iterator[Row]:
    """torchrun itself is killed."""
    reference = bench.folder("two-processes")
    for ended in together(bench, reference, _CHANGED, 2):
        require_success(ended)
    folder = bench.folder("orphans")
    with Torchrun(bench, folder, [], []) as torchrun:
        torchrun.wait_for_lines()
        processes = torchrun.processes()
        lines = len(read_records(folder))
        torchrun.kill()
        killed = time.monotonic()
        _, left = psutil.wait_procs(processes, timeout=TIMEOUT)
        seconds = time.monotonic() - killed
        for process in left:
            process.kill()
    further = len(read_records(folder)) - lines
    place = place_in_words(progress(folder))
    with Torchrun(bench, folder, [], ["--resume"]) as torchrun:
        resumed = torchrun.wait()
    different = differences(folder, reference) if resumed == 0 else [f"its status {resumed}"]
    yield judge(
        "orphans",
        "torchrun killed, with two processes",
        (f"they ended {seconds:.1f} s later", unless(not left, f"{len(left)} trained on")),
        (place, unless(further < _CHANGED["MAIN.MAX_EPOCHS"] - _LINES, "they trained to their end")),
        (EQUAL, equality_problem(different)),
    )


def _ended(status: int | None, seconds: float, expected: int) -> tuple[str, str]:
    fact = f"torchrun ended {seconds:.0f} s later with status {status}"
    return fact, unless(status == expected, fact)


def _killed(bench: Bench, folder: Path, options: list[str]) -> tuple[int | None, float]:
    """Kill the second process in stage 2; returns torchrun's status and the seconds until its end."""
    with Torchrun(bench, folder, options, []) as torchrun:
        torchrun.wait_for_lines()
        next(each for each in torchrun.processes() if each.environ()["RANK"] == "1").kill()
        killed = time.monotonic()
        return torchrun.wait(), time.monotonic() - killed


class Torchrun:
    """The program under torchrun with two processes, which are killed at the end of the context."""

    def __init__(self, bench: Bench, folder: Path, options: list[str], program: list[str]) -> None:
        self.folder = folder
        self._printed = bench.folder("torchrun")
        self._command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        self._command += ["--nproc_per_node", "2", *options, "train_clipreid.py", *program]
        self._command += ["--config_file", "", *bench.words(folder, _CHANGED)]

    def __enter__(self) -> "Torchrun":
        with open(self._printed, "wb") as printed:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            torchrun = psutil.Process(self._process.pid)
            for process in (*torchrun.children(recursive=True), torchrun):
                with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                    process.kill()
            self._process.wait()

    def wait(self) -> int | None:
        """The exit status, None if it has not ended in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(TIMEOUT)
        return None

    def wait_for_lines(self) -> None:
        """Wait until the run has trained some epochs. Raises RuntimeError if it does not get there."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end and self._process.poll() is None:
            if (self.folder / "metrics.jsonl").exists() and len(read_records(self.folder)) >= _LINES:
                return
            time.sleep(0.05)
        raise RuntimeError(f"too few lines of metrics under torchrun:\n{self._printed.read_text()[-9000:]}")

    def processes(self) -> list[psutil.Process]:
        """The processes of the run."""
        started = psutil.Process(self._process.pid).children(recursive=True)
        return [process for process in started if "RANK" in process.environ()]

    def kill(self) -> None:
        """Kill torchrun, and nothing that it has started."""
        self._process.kill()
        self._process.wait()
