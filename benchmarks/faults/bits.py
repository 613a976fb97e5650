"""Bits that change in the files of a run, as on a bad disk or in a broken copy."""

import signal
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.faults.hooks import slow_steps
from benchmarks.faults.rows import EQUAL, Row, equality_problem, judge, line_problem, status_problem, unless
from benchmarks.faults.runs import Bench, checkpoints, unequal
from utils.weights import read_checkpoint

_FLIPS = 300
_SLOW = 0.1


def bits(bench: Bench) -> Iterator[Row]:
    """One bit of `last.pt` or of a checkpoint is another."""
    run = bench.folder("bits")
    child = bench.start(run, faults=[slow_steps(_SLOW)])
    child.wait_until(lambda watch: watch.phase == "stage2" and watch.steps > 2)
    child.send(signal.SIGTERM)
    child.wait()
    path = run / "last.pt"
    whole = path.read_bytes()
    part, place = _largest_part(path)
    path.write_bytes(_flipped(whole, place, 0))
    ended = bench.run(run, resume=True)
    kept = path.read_bytes() == _flipped(whole, place, 0)
    path.write_bytes(whole)
    yield judge(
        "bits",
        "a bit of a tensor in `last.pt` flipped, then resumed",
        ("status 2, one line", status_problem(ended, 2) or line_problem(ended, "last.pt", part, "checksum")),
        ("", unless(kept, "the file was overwritten")),
        (f"with the file restored {EQUAL}", equality_problem(bench.resumed(run))),
    )
    yield _random_flips(bench, run)


def _random_flips(bench: Bench, run: Path) -> Row:
    """Each flip is refused, or changes no tensor, as in the fillers between the parts of an archive."""
    rng = np.random.default_rng(bench.seed)
    name = checkpoints(run)[-1]
    whole, copy = (run / name).read_bytes(), bench.folder("flipped")
    copy.mkdir()
    outcomes: Counter[str] = Counter()
    for _ in range(_FLIPS):
        (copy / name).write_bytes(_flipped(whole, int(rng.integers(len(whole))), int(rng.integers(8))))
        try:
            read_checkpoint(copy / name)
        except ValueError:
            outcomes["refused"] += 1
        else:
            outcomes["silent" if unequal(copy, run, [name]) else "without effect"] += 1
    found = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    return judge(
        "bits",
        f"a bit of a checkpoint flipped, {_FLIPS} times at random",
        (found, unless(not outcomes["silent"] and outcomes["refused"] > 0, found)),
    )


def _flipped(content: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def _largest_part(path: Path) -> tuple[str, int]:
    """The name of an archive's largest member, and a place in the middle of its bytes."""
    with zipfile.ZipFile(path) as archive:
        part = max(archive.infolist(), key=lambda member: member.file_size)
        with archive.open(part):
            start = archive.fp.tell()
    return part.filename, start + part.file_size // 2
