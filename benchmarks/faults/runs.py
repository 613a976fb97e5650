"""Toy runs of training in processes of their own, and whether what they leave is whole and equal.

A run is forked from this process, which has imported everything and computed nothing: an attempt costs a
fraction of a second instead of the seconds that the imports take.
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

import numpy as np
import torch
import yaml
from PIL import Image
from yacs.config import CfgNode

from benchmarks.faults.patches import PHASES, Patch, Watch, watch_run
from config import cfg, cfg_base
from config.arguments import end_in_one_line
from config.load import load_config
from processor import METHODS, train
from utils.files import read_checkpoint

TIMEOUT = 120  # seconds that a toy run may take at most
LABEL = "toy"  # of the tower in the names of checkpoints
_TOWER = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
IDENTITIES, CAMERAS, SHOTS = 32, 2, 2  # more than 100 images, of which one may be unreadable
_SETTINGS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.PRETRAIN_CHOICE": "none",
    "MODEL.STRIDE_SIZE": [8, 8],
    "INPUT.SIZE_TRAIN": [32, 16],
    "INPUT.SIZE_TEST": [32, 16],
    "INPUT.PADDING": 2,
    "DATALOADER.SAMPLER": "softmax_triplet",
    "DATALOADER.NUM_INSTANCE": 4,
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.IMS_PER_BATCH": 16,
    "TEST.NECK_FEAT": "before",
    "SOLVER.SAVE_EVERY_MIN": 0.005,
}
_PROMPTS = {"IMS_PER_BATCH": 32, "MAX_EPOCHS": 12, "BASE_LR": 0.02, "WARMUP_EPOCHS": 0}
_IMAGES = {"IMS_PER_BATCH": 16, "MAX_EPOCHS": 8, "BASE_LR": 1e-3, "WARMUP_ITERS": 0, "EVAL_PERIOD": 2}
_PERIODS = {"CHECKPOINT_PERIOD": 2, "LOG_PERIOD": 2}


class Ended(NamedTuple):
    """How a process ended: its status (minus the signal that killed it), seconds, and what it printed."""

    status: int
    seconds: float
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """Lines on stderr that are no progress bar."""
        lines = (line.rpartition("\r")[2].strip() for line in self.err.splitlines())
        return [line for line in lines if line and "it/s]" not in line]


class Child:
    """A training run in a forked process; `watch` tells where it is."""

    def __init__(self, process: multiprocessing.Process, watch: Watch, printed: Path) -> None:
        self.process, self.watch, self._printed = process, watch, printed
        self._started = time.monotonic()
        process.start()

    def wait_until(self, reached: Callable[[Watch], bool], seconds: float = TIMEOUT) -> bool:
        """Whether the run got there before it ended and the seconds were over."""
        end = time.monotonic() + seconds
        while self.process.is_alive() and time.monotonic() < end:
            if reached(self.watch):
                return True
            time.sleep(0.001)
        return False

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal, if it still runs."""
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def wait(self, seconds: float = TIMEOUT) -> Ended:
        """Wait for its end, which comes by force when the seconds are over (status -9)."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.stop()
        taken = time.monotonic() - self._started
        out, err = (self._printed.with_suffix(end).read_text(errors="replace") for end in (".out", ".err"))
        return Ended(self.process.exitcode, taken, out, err)

    def stop(self) -> None:
        """End the process and all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has no group of its own yet
            self.process.kill()
        self.process.join(TIMEOUT)


class Bench:
    """A folder with a toy CLIP tower and a data set of noise images, and the runs in it."""

    def __init__(self, root: Path, *, seed: int = 0, kills: int = 0, soak: float = 0.0) -> None:
        self.root, self.seed, self.kills, self.soak = root, seed, kills, soak
        self.data = root / "data"
        (root / f"{LABEL}.json").write_text(json.dumps(_TOWER))
        _draw(self.data / "Market-1501-v15.09.15", np.random.default_rng(seed))
        self._runs = 0
        self._references: dict[tuple, Path] = {}

    def folder(self, name: str) -> Path:
        """A folder for a run that nobody has used."""
        self._runs += 1
        return self.root / f"{self._runs:03d}-{name}"

    def words(self, output_dir: Path, changed: Mapping[str, Any], recipe: str = "clipreid") -> list[str]:
        """The KEY VALUE pairs of a toy run; MAIN.X is the X of the stage that trains images."""
        main = "SOLVER.STAGE2." if recipe == "clipreid" else "SOLVER."
        settings = _SETTINGS | {main + key: value for key, value in (_IMAGES | _PERIODS).items()}
        if recipe == "clipreid":
            settings |= {f"SOLVER.STAGE1.{key}": value for key, value in (_PROMPTS | _PERIODS).items()}
        settings |= {
            "MODEL.NAME": self.root / f"{LABEL}.json",
            "DATASETS.ROOT_DIR": self.data,
            "OUTPUT_DIR": output_dir,
        }
        settings |= {key.replace("MAIN.", main): value for key, value in changed.items()}
        return [str(word) for pair in settings.items() for word in pair]

    def start(
        self,
        output_dir: Path,
        changed: Mapping[str, Any] | None = None,
        *,
        recipe: str = "clipreid",
        resume: bool = False,
        patches: Sequence[Patch] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start training as the program does; `patches` are what goes wrong in its process."""
        config = load_config(
            cfg if recipe == "clipreid" else cfg_base, "", self.words(output_dir, changed or {}, recipe)
        )
        watch = RawValue(Watch)
        printed = self.folder("printed")
        process = multiprocessing.get_context("fork").Process(
            target=_run, args=(config, recipe, resume, patches, environment or {}, watch, printed)
        )
        return Child(process, watch, printed)

    def run(self, output_dir: Path, changed: Mapping[str, Any] | None = None, **options: Any) -> Ended:
        """`start`, and wait for the end."""
        return self.start(output_dir, changed, **options).wait()

    def reference(self, changed: Mapping[str, Any] | None = None, recipe: str = "clipreid") -> Path:
        """The folder of a run that nothing has interrupted. Raises RuntimeError when it fails."""
        key = (recipe, *sorted((changed or {}).items()))
        if key not in self._references:
            folder = self.folder("reference")
            require_success(self.run(folder, changed, recipe=recipe))
            self._references[key] = folder
        return self._references[key]

    def resumed(self, output_dir: Path, changed: Mapping[str, Any] | None = None) -> list[str]:
        """Resume a run to its end and compare with one that was never interrupted; the differences."""
        reference = self.reference(changed)
        ended = self.run(output_dir, changed, resume=True)
        if ended.status:
            return [f"resumed with status {ended.status}: {' '.join(ended.error_lines[-1:])}"]
        return differences(output_dir, reference)


def _run(
    config: CfgNode,
    recipe: str,
    resume: bool,
    patches: Sequence[Patch],
    environment: Mapping[str, str],
    watch: Watch,
    printed: Path,
) -> None:
    """What the forked process does."""
    os.setpgrp()  # so that it ends with all that it has started
    for stream, name in ((sys.stdout, ".out"), (sys.stderr, ".err")):
        with open(printed.with_suffix(name), "wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.update(environment)
    torch.set_num_threads(1)
    watch_run(watch)
    for patch in patches:
        patch(watch)
    args = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=resume)
    with end_in_one_line():
        train(config, args, method=METHODS[recipe])


def require_success(ended: Ended) -> None:
    """Raise RuntimeError with what a run printed when it failed."""
    if ended.status:
        raise RuntimeError(f"a run without faults ended with status {ended.status}:\n{ended.err[-3000:]}")


# ---- what a run leaves


def unreadable(folder: Path) -> list[str]:
    """Files of a run that cannot be read as what they are; hidden ones, in work when it was killed, may."""
    found = []
    for path in sorted(folder.iterdir() if folder.exists() else ()):
        if path.name.startswith("."):
            continue
        try:
            if path.suffix in (".pt", ".pth"):
                torch.load(path, map_location="cpu", weights_only=True)
            elif path.suffix == ".jsonl":
                read_records(folder)
            elif path.suffix == ".yml":
                if not isinstance(yaml.safe_load(path.read_text()), dict):
                    raise ValueError("no mapping")
            else:
                path.read_text()
        except Exception as error:  # whatever it is, the file is not whole
            found.append(f"{path.name}: {type(error).__name__}")
    return found


def checkpoints(folder: Path) -> list[str]:
    """Names of a run's published checkpoints."""
    return sorted(path.name for path in folder.glob("*.pth"))


def unequal(folder: Path, reference: Path, names: Sequence[str]) -> list[str]:
    """Checkpoints whose tensors are not the reference's to the bit."""
    return [name for name in names if not _same_bits(folder / name, reference / name)]


def differences(folder: Path, reference: Path) -> list[str]:
    """What differs between two finished runs: files, bits of checkpoints, lines of metrics but for times."""
    ours, theirs = checkpoints(folder), checkpoints(reference)
    found = [f"{name} only in one" for name in sorted({*ours} ^ {*theirs})]
    found += unequal(folder, reference, sorted({*ours} & {*theirs}))
    records = [[{**r, "seconds": 0} for r in read_records(place)] for place in (folder, reference)]
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


def phase_of(watch: Watch) -> str:
    """Where a run is or was."""
    return PHASES[watch.phase]


def _same_bits(path: Path, other: Path) -> bool:
    if not other.exists():
        return False
    ours, theirs = (torch.load(place, map_location="cpu", weights_only=True) for place in (path, other))
    return ours.keys() == theirs.keys() and all(
        value.dtype == theirs[name].dtype and value.numpy().tobytes() == theirs[name].numpy().tobytes()
        for name, value in ours.items()
    )


def _draw(root: Path, rng: np.random.Generator) -> None:
    """A Market-1501 of noise around a colour for each person."""
    for folder, first in (("bounding_box_train", 1), ("query", 101), ("bounding_box_test", 101)):
        (root / folder).mkdir(parents=True)
        for pid in range(first, first + IDENTITIES):
            colour = np.random.default_rng(pid).integers(0, 200, (1, 1, 3))
            for camera in range(1, 1 + CAMERAS):
                for shot in range(SHOTS):
                    pixels = colour + rng.integers(0, 50, (32, 16, 3))
                    path = root / folder / f"{pid:04d}_c{camera}s1_{shot:06d}_00.jpg"
                    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)
