"""Toy runs of training in forked processes, and checks that their files are whole and equal.

This process has imported everything and computed nothing, so a forked run starts in a fraction of a second.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from yacs.config import CfgNode

from benchmarks.faults.hooks import Fault, Watch, with_faults
from config.arguments import end_in_one_line
from config.load import load_config
from processor import METHODS, Method, train
from tests.toys import SETTINGS, draw_market, words, write_tower
from utils.weights import read_checkpoint

TIMEOUT = 120  # seconds for a toy run
LABEL = "toy"  # of the tower in the names of checkpoints
IDENTITIES = range(1, 65)  # with 128 images, of which one may be unreadable
_SETTINGS = SETTINGS | {
    "TEST.IMS_PER_BATCH": 16,
    "TEST.NECK_FEAT": "before",
    "SOLVER.SAVE_EVERY_MIN": 0.005,
}
_PROMPTS = {"IMS_PER_BATCH": 32, "MAX_EPOCHS": 12, "BASE_LR": 0.02, "WARMUP_EPOCHS": 0}
_IMAGES = {"IMS_PER_BATCH": 16, "MAX_EPOCHS": 8, "BASE_LR": 1e-3, "WARMUP_ITERS": 0, "EVAL_PERIOD": 2}
_PERIODS = {"CHECKPOINT_PERIOD": 2, "LOG_PERIOD": 2}


class Ended(NamedTuple):
    """End of a process: its status (minus the signal that killed it), seconds, and output."""

    status: int
    seconds: float
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """Lines on stderr without progress bars."""
        lines = (line.rpartition("\r")[2].strip() for line in self.err.splitlines())
        return [line for line in lines if line and "it/s]" not in line]


class Child:
    """A training run in a forked process; `watch` holds its position."""

    def __init__(self, process: multiprocessing.Process, watch: Watch, printed: Path) -> None:
        self.process, self.watch, self._printed = process, watch, printed
        self._started = time.monotonic()
        process.start()

    def wait_until(self, reached: Callable[[Watch], bool], seconds: float = TIMEOUT) -> bool:
        """Wait until the run gets there; False if it ends or the seconds are over before."""
        end = time.monotonic() + seconds
        while self.process.is_alive() and time.monotonic() < end:
            if reached(self.watch):
                return True
            time.sleep(0.001)
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal if the process still runs."""
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def wait(self, seconds: float = TIMEOUT) -> Ended:
        """Wait for its end; kills it when the seconds are over (status -9)."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.stop()
        taken = time.monotonic() - self._started
        out, err = (self._printed.with_suffix(end).read_text(errors="replace") for end in (".out", ".err"))
        return Ended(self.process.exitcode, taken, out, err)

    def stop(self) -> None:
        """Kill the process and those that it has started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # its group does not exist yet
            self.process.kill()
        self.process.join(TIMEOUT)


class Bench:
    """Runs in a folder with a toy CLIP tower and a data set of noise images."""

    def __init__(self, root: Path, *, seed: int = 0, kills: int = 0, soak: float = 0.0) -> None:
        self.root, self.seed, self.kills, self.soak = root, seed, kills, soak
        self.data = root / "data"
        write_tower(root / f"{LABEL}.json")
        draw_market(self.data, IDENTITIES, range(101, 133), gallery_shots=2)
        self._runs = 0
        self._references: dict[tuple, Path] = {}

    def folder(self, name: str) -> Path:
        """The path of a new folder."""
        self._runs += 1
        return self.root / f"{self._runs:03d}-{name}"

    def words(self, output_dir: Path, changed: Mapping[str, Any], method: str = "clipreid") -> list[str]:
        """The KEY VALUE pairs of a toy run; MAIN.X is the X of the stage that trains images."""
        main = "SOLVER.STAGE2." if method == "clipreid" else "SOLVER."
        settings = _SETTINGS | {main + key: value for key, value in (_IMAGES | _PERIODS).items()}
        if method == "clipreid":
            settings |= {f"SOLVER.STAGE1.{key}": value for key, value in (_PROMPTS | _PERIODS).items()}
        settings |= {
            "MODEL.NAME": self.root / f"{LABEL}.json",
            "DATASETS.ROOT_DIR": self.data,
            "OUTPUT_DIR": output_dir,
        }
        settings |= {key.replace("MAIN.", main): value for key, value in changed.items()}
        return list(map(str, words(settings)))

    def start(
        self,
        output_dir: Path,
        changed: Mapping[str, Any] | None = None,
        *,
        method: str = "clipreid",
        resume: bool = False,
        faults: Sequence[Fault] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start training as the program does; `faults` happen in its process."""
        config = load_config(METHODS[method].tree, "", self.words(output_dir, changed or {}, method))
        watch = RawValue(Watch)
        printed = self.folder("printed")
        faulty = with_faults(METHODS[method], watch, faults)
        process = multiprocessing.get_context("fork").Process(
            target=_run, args=(config, faulty, resume, environment or {}, printed)
        )
        return Child(process, watch, printed)

    def run(self, output_dir: Path, changed: Mapping[str, Any] | None = None, **options: Any) -> Ended:
        """`start`, and wait for the end."""
        return self.start(output_dir, changed, **options).wait()

    def reference(self, changed: Mapping[str, Any] | None = None) -> Path:
        """The folder of an uninterrupted run. Raises RuntimeError when it fails."""
        key = tuple(sorted((changed or {}).items()))
        if key not in self._references:
            folder = self.folder("reference")
            require_success(self.run(folder, changed))
            self._references[key] = folder
        return self._references[key]

    def resumed(self, output_dir: Path, changed: Mapping[str, Any] | None = None) -> list[str]:
        """Resume a run to its end; returns the differences from an uninterrupted one."""
        reference = self.reference(changed)
        ended = self.run(output_dir, changed, resume=True)
        if ended.status:
            return [f"resumed with status {ended.status}: {' '.join(ended.error_lines[-1:])}"]
        return differences(output_dir, reference)


def _run(
    config: CfgNode, method: Method, resume: bool, environment: Mapping[str, str], printed: Path
) -> None:
    """Train in the forked process."""
    os.setpgrp()  # so that it ends with all that it has started
    for stream, name in ((sys.stdout, ".out"), (sys.stderr, ".err")):
        with open(printed.with_suffix(name), "wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.update(environment)
    torch.set_num_threads(1)
    args = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=resume)
    with end_in_one_line():
        train(config, args, method=method)


def require_success(ended: Ended) -> None:
    """Raise RuntimeError with the output of a run that failed."""
    if ended.status:
        raise RuntimeError(f"a run without faults ended with status {ended.status}:\n{ended.err[-3000:]}")


# ---- files of a run


def unreadable(folder: Path) -> list[str]:
    """Files of a run that cannot be read; hidden ones are ignored, they were being written at a kill."""
    found = []
    for path in sorted(folder.iterdir() if folder.exists() else ()):
        if path.name.startswith("."):
            continue
        try:
            if path.suffix in (".pt", ".pth"):
                read_checkpoint(path)
            elif path.suffix == ".jsonl":
                read_records(folder)
            elif path.suffix == ".yml":
                if not isinstance(yaml.safe_load(path.read_text()), dict):
                    raise ValueError("not a mapping")
            else:
                path.read_text()
        except Exception as error:  # of any type: the file is not whole
            found.append(f"{path.name}: {type(error).__name__}")
    return found


def checkpoints(folder: Path) -> list[str]:
    """Names of a run's published checkpoints."""
    return sorted(path.name for path in folder.glob("*.pth"))


def unequal(folder: Path, reference: Path, names: Sequence[str]) -> list[str]:
    """Checkpoints whose tensors differ from the reference's in a bit."""
    return [name for name in names if not _same_bits(folder / name, reference / name)]


def differences(folder: Path, reference: Path) -> list[str]:
    """Differences of two finished runs: names of files, bits of checkpoints, metrics without times."""
    ours, theirs = checkpoints(folder), checkpoints(reference)
    found = [f"{name} only in one" for name in sorted({*ours} ^ {*theirs})]
    found += unequal(folder, reference, sorted({*ours} & {*theirs}))
    records = [[{**r, "seconds": 0, "time": 0} for r in read_records(it)] for it in (folder, reference)]
    return found + ([] if records[0] == records[1] else ["metrics.jsonl"])


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def progress(folder: Path) -> tuple[str, int, int] | None:
    """Stage, epoch and iteration in `last.pt`; None without the file."""
    if not (folder / "last.pt").exists():
        return None
    content = read_checkpoint(folder / "last.pt")
    return (content["stage"], content["epoch"], content["iteration"]) if content["stage"] else ("", 0, 0)


def _same_bits(path: Path, other: Path) -> bool:
    if not other.exists():
        return False
    ours, theirs = (read_checkpoint(place) for place in (path, other))
    return ours.keys() == theirs.keys() and all(
        value.dtype == theirs[name].dtype and value.numpy().tobytes() == theirs[name].numpy().tobytes()
        for name, value in ours.items()
    )
