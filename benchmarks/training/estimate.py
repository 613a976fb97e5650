"""The memory that a run foretells, next to the peak of the process that then trains.

`make bench-estimate`, or: python -m benchmarks.training.estimate [--runs NAME ...]

Each run is a program with a published configuration at full size, random weights and drawn people, on the
CPU: an epoch of two batches in each stage, with the evaluation after it. The peak is that which the system
says of its process when it has ended (Linux or macOS); images are loaded by the program itself. An estimate
that is further off than `TOLERANCE` ends the benchmark with an error, after the table.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT
from config.arguments import Parser
from datasets.drawn import draw_market1501

TOLERANCE = 0.2
_BATCH = 16
_KEYS = {
    "DATASETS.NAMES": "market1501",
    "MODEL.PRETRAIN_CHOICE": "none",
    "MODEL.DEVICE": "cpu",
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.IMS_PER_BATCH": _BATCH,
}
_ONE = {"SOLVER.IMS_PER_BATCH": _BATCH, "SOLVER.MAX_EPOCHS": 1}
_TWO = {
    "SOLVER.STAGE1.IMS_PER_BATCH": _BATCH,
    "SOLVER.STAGE1.MAX_EPOCHS": 1,
    "SOLVER.STAGE2.IMS_PER_BATCH": _BATCH,
    "SOLVER.STAGE2.MAX_EPOCHS": 1,
}
# Program, configuration and keys by name.
RUNS: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "ResNet-50 baseline": ("train.py", "person/cnn_base.yml", _ONE),
    "ViT-B/16 CLIP-ReID": ("train_clipreid.py", "person/vit_clipreid.yml", _TWO),
    "the same, MICRO_BATCH 4": (
        "train_clipreid.py",
        "person/vit_clipreid.yml",
        _TWO | {"SOLVER.MICRO_BATCH": 4},
    ),
}
_ROW = re.compile(r" *\w+(?: +[\d,.]+){8}")


def measure(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """GB (10^9 bytes) that the run of this name foretells, and those of its peak.

    Raises CalledProcessError where the program fails.
    """
    program, config, keys = RUNS[name]
    settings = {**_KEYS, "DATASETS.ROOT_DIR": data, "OUTPUT_DIR": folder, **keys}
    words = [str(word) for pair in settings.items() for word in pair]
    command = [sys.executable, str(ROOT / program), "--config_file", str(ROOT / "configs" / config), *words]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    unit = 1 if sys.platform == "darwin" else 1024
    log = (folder / "train_log.txt").read_text(encoding="utf-8")
    return {"run": name, "estimate": estimate_in(log), "peak": usage.ru_maxrss * unit / 1e9}


def estimate_in(log: str) -> float:
    """The highest estimate of a stage in the table of a log, in GB."""
    return max(float(line.split()[-1]) for line in log.splitlines() if _ROW.fullmatch(line))


def measure_all(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A record for each run."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        people = {"train_ids": 2 * _BATCH // 4, "test_ids": 4, "images_per_camera": 2, "cameras": 2}
        draw_market1501(data, **people, distractors=0, seed=0)
        for number, name in enumerate(names):
            yield measure(name, data, Path(folder) / str(number))


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table, a row for each run."""
    lines = ["| run, batches of 16 | estimate, GB | measured peak, GB | estimate / peak |", "|---" * 4 + "|"]
    for each in records:
        share = each["estimate"] / each["peak"]
        lines.append(f"| {each['run']} | {each['estimate']:.2f} | {each['peak']:.2f} | {share:.2f} |")
    return "\n".join(lines)


def require_close(records: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError for an estimate that is off by more than `TOLERANCE` of the peak."""
    for each in records:
        off = each["estimate"] / each["peak"] - 1
        if abs(off) > TOLERANCE:
            raise ValueError(
                f"the estimate of {each['run']} is {off:+.0%} of the peak off; allowed: {TOLERANCE:.0%}"
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line for each run and the table at the end."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME", help=f"of {', '.join(RUNS)}"
    )
    args = parser.parse_args(argv)
    records = []
    for record in measure_all(args.runs):
        records.append(record)
        print(json.dumps(record), flush=True)
    print(f"\n{table(records)}")
    require_close(records)


if __name__ == "__main__":
    main()
