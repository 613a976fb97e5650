"""One of two processes of a run that torchrun has started is killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.numbers import together
from benchmarks.faults.rows import EQUAL, Row, equality_problem, judge, unless
from benchmarks.faults.runs import TIMEOUT, Bench, differences, read_records, require_success
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


def _ended(status: int | None, seconds: float, expected: int) -> tuple[str, str]:
    told = f"torchrun ended {seconds:.0f} s later with status {status}"
    if status is None:
        return "", f"torchrun had not ended {seconds:.0f} s later"
    return told, unless(status == expected, told)


def _killed(bench: Bench, folder: Path, options: list[str]) -> tuple[int | None, float]:
    """Kill the second process in stage 2; torchrun's status and the seconds until its end."""
    with Torchrun(bench, folder, options, []) as torchrun:
        torchrun.wait_for_lines()
        os.kill(torchrun.pid_of(1), signal.SIGKILL)
        killed = time.monotonic()
        return torchrun.wait(), time.monotonic() - killed


class Torchrun:
    """The program under torchrun with two processes; ends with the context, whatever happens."""

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
            for pid in (*descendants(self._process.pid), self._process.pid):
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def wait(self) -> int | None:
        """The exit status, None when it has not ended in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(TIMEOUT)
        return None

    def wait_for_lines(self) -> None:
        """Wait until the run has trained some epochs. Raises RuntimeError when it does not get there."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end and self._process.poll() is None:
            if (self.folder / "metrics.jsonl").exists() and len(read_records(self.folder)) >= _LINES:
                return
            time.sleep(0.05)
        raise RuntimeError(f"the run under torchrun came to nothing:\n{self._printed.read_text()[-3000:]}")

    def pid_of(self, rank: int) -> int:
        """The id of a process of the run."""
        for pid in descendants(self._process.pid):
            if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return pid
        raise RuntimeError(f"no process of rank {rank}")


def descendants(pid: int) -> list[int]:
    """Ids of the processes that a process has started, and of theirs."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in tasks.read_text().split()]
        except OSError:  # it has just ended
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found
