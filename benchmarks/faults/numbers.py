"""Losses that are not finite, and losses that must not depend on how a batch is divided."""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults.hooks import Fault, Watch, bad_loss
from benchmarks.faults.rows import Row, file_problem, judge, line_problem, status_problem, unless
from benchmarks.faults.runs import Bench, Child, Ended, read_records, require_success
from processor.engine import Run, Stage
from tests.several_processes.whole_batch_norms import synchronise_batch_norms
from utils.weights import read_checkpoint

# Stage 1 has four steps an epoch, the others eight: each is in the second epoch.
_TERMS = {
    "stage1": (("i2t", "t2i"), 6),
    "stage2": (("id", "triplet", "i2t"), 12),
    "baseline": (("center",), 12),
}
_SHORT = {"SOLVER.STAGE1.MAX_EPOCHS": 3, "MAIN.MAX_EPOCHS": 3}
_CLOSE = 1e-3  # between losses of some 10, after rounding has grown for some 40 steps


def nan(bench: Bench) -> Iterator[Row]:
    """Each term of each loss is NaN once."""
    stage1 = bench.reference() / "toy_stage1_12.pth"
    for stage, (terms, step) in _TERMS.items():
        method = "baseline" if stage == "baseline" else "clipreid"
        changed: dict[str, Any] = {"MODEL.STAGE1_WEIGHT": stage1} if stage == "stage2" else {}
        changed |= {"MODEL.METRIC_LOSS_TYPE": "triplet_center"} if "center" in terms else {}
        for term in terms:
            folder = bench.folder("nan")
            ended = bench.run(folder, changed, method=method, faults=[bad_loss(stage, term, step)])
            batches = 4 if stage == "stage1" else 8
            place = (stage, (step - 1) // batches + 1, (step - 1) % batches + 1)
            words = f"{place[0]}, epoch {place[1]}, iteration {place[2]}"
            yield judge(
                "nan",
                f"{term} of {stage} is NaN",
                (
                    f"status {ended.status}, one line: {words}, {term} nan",
                    status_problem(ended, 2) or line_problem(ended, words, f"{term} nan", "bad_step.json"),
                ),
                ("`bad_step.json` has its images", _report_problem(folder / "bad_step.json", place, term)),
                ("`last.pt` is finite", _finite_problem(folder / "last.pt")),
            )


def _report_problem(path: Path, place: tuple[str, int, int], term: str) -> str:
    if not path.exists():
        return "no bad_step.json"
    report = json.loads(path.read_text())
    found = (report["stage"], report["epoch"], report["iteration"])
    right = found == place and report["losses"][term] == "nan" and report["paths"]
    return unless(bool(right), f"bad_step.json says {found}, losses {report['losses']}")


def _finite_problem(path: Path) -> str:
    if not path.exists():
        return "no last.pt"
    model = read_checkpoint(path)["model"]
    return file_problem([name for name, value in model.items() if not value.isfinite().all()])


def processes(bench: Bench) -> Iterator[Row]:
    """The same run in 1, 2 and 4 processes, and in parts of a batch."""
    reference = bench.folder("alone")
    require_success(bench.run(reference, _SHORT))
    for count in (2, 4):
        folder = bench.folder(f"{count}-processes")
        ended = together(bench, folder, _SHORT, count, faults=[_whole_batch_norms])
        yield judge("processes", f"{count} processes instead of 1", *_compared(ended, folder, reference))
    folder = bench.folder("micro")
    ended = bench.run(folder, _SHORT | {"SOLVER.MICRO_BATCH": 4})
    yield judge("processes", "MICRO_BATCH 4 of a batch of 16", *_compared([ended], folder, reference))


def _whole_batch_norms(watch: Watch, stage: Stage, run: Run) -> None:
    """Does what torch does on GPUs only."""
    synchronise_batch_norms(stage.objective, run.device)


def _compared(ended: list[Ended], folder: Path, reference: Path) -> Iterator[tuple[str, str]]:
    failed = next(filter(None, (status_problem(one, 0) for one in ended)), "")
    yield "", failed
    if not failed:
        difference = largest_difference(folder, reference)
        fact = f"losses differ by at most {difference:.1e}"
        yield fact, unless(difference < _CLOSE, fact)


def largest_difference(folder: Path, reference: Path) -> float:
    """The largest difference of a loss between the metrics of two runs; infinite where lines differ."""
    ours, theirs = (
        [
            {("stage", r["stage"]): 0.0, **{(r["epoch"], name): r[name] for name in r if "loss" in name}}
            for r in read_records(place)
        ]
        for place in (folder, reference)
    )
    if [record.keys() for record in ours] != [record.keys() for record in theirs]:
        return float("inf")
    return max(abs(a[key] - b[key]) for a, b in zip(ours, theirs, strict=True) for key in a)


def together(
    bench: Bench, folder: Path, changed: Mapping[str, Any], count: int, faults: Sequence[Fault] = ()
) -> list[Ended]:
    """A run of several processes, in the environment that torchrun gives."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    shared["LOCAL_WORLD_SIZE"] = str(count)
    children: list[Child] = []
    for rank in range(count):
        environment = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        children.append(bench.start(folder, changed, environment=environment, faults=faults))
    return [child.wait() for child in children]
