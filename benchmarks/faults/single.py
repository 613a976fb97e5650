"""Faults from outside to a run of one process: signals, disks, folders, images, loaders."""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from benchmarks.faults.hooks import (
    Fault,
    Watch,
    at_step,
    full_disk_for_log,
    full_disk_for_metrics,
    kill_workers,
    killed_before_save,
    limit_files,
    slow_steps,
)
from benchmarks.faults.rows import (
    EQUAL,
    Row,
    equality_problem,
    file_problem,
    judge,
    line_problem,
    place_in_words,
    status_problem,
    unless,
)
from benchmarks.faults.runs import (
    Bench,
    Child,
    Ended,
    checkpoints,
    differences,
    progress,
    unequal,
    unreadable,
)

LONGEST_DELAY = 1.6  # seconds until a kill: a run starts in half a second and takes about four
_AIMS = {"stage1": 0.3, "save": 0.03, "evaluation": 0.1}  # about how long they take, seconds
_BATCHES = 8  # of an epoch of stage 2
_STEP = 11  # of stage 2, at which something happens
_SLOW = 0.1


def kill(bench: Bench) -> Iterator[Row]:
    """SIGKILL at random moments, resumed each time; some aim at the shorter phases of a run."""
    rng = np.random.default_rng(bench.seed)
    reference, folder = bench.reference(), bench.folder("killed")
    where: Counter[str] = Counter()
    broken, unequal_runs, finished = [], [], 0
    while True:
        kills = sum(where.values())
        child = bench.start(folder, resume=True)
        phase = _kill_somewhere(child, rng) if kills < bench.kills else ""
        ended = child.wait()
        broken += [*unreadable(folder), *unequal(folder, reference, checkpoints(folder))]
        if ended.status == -signal.SIGKILL and phase:
            where[phase] += 1
            continue
        finished += 1
        unequal_runs += [status_problem(ended, 0) or equality_problem(differences(folder, reference))]
        if ended.status or kills == bench.kills:  # it would fail again
            break
        folder = bench.folder("killed")
    yield judge(
        "kill",
        f"SIGKILL at {kills} random moments",
        (f"fell into {', '.join(f'{phase} {count}' for phase, count in where.most_common())}", ""),
        ("all files whole after each", file_problem(broken)),
        (f"{finished} runs resumed to their end, equal", next(filter(None, unequal_runs), "")),
    )
    folder = bench.folder("killed")
    ended = bench.run(folder, faults=[killed_before_save])
    yield judge(
        "kill",
        "SIGKILL before the first `last.pt`",
        ("", status_problem(ended, -signal.SIGKILL)),
        ("started at the beginning, equal", equality_problem(bench.resumed(folder))),
    )


def _kill_somewhere(child: Child, rng: np.random.Generator) -> str:
    """Kill a run at a random moment of its next seconds; returns the phase that it was in."""
    aim = rng.choice(["", *_AIMS], p=[0.4, 0.2, 0.2, 0.2])
    if aim:
        child.wait_until(lambda watch: watch.phase == aim, rng.uniform(0.7, 1) * LONGEST_DELAY)
    time.sleep(rng.uniform(0, _AIMS.get(aim, LONGEST_DELAY)))
    child.send(signal.SIGSTOP)  # so that the phase stays
    phase = child.watch.phase
    child.send(signal.SIGKILL)
    return phase


def stop(bench: Bench) -> Iterator[Row]:
    """SIGTERM or SIGINT once, and SIGTERM twice."""
    for number in (signal.SIGTERM, signal.SIGINT):
        run = bench.folder("stopped")
        child = bench.start(run, faults=[slow_steps(_SLOW)])
        child.wait_until(_in_stage2)
        begun, sent = child.watch.steps, time.monotonic()
        child.send(number)
        ended = child.wait()
        seconds, further, place = time.monotonic() - sent, child.watch.steps - begun, progress(run)
        yield judge(
            "stop",
            f"{number.name} in an epoch",
            (f"status {ended.status} after {seconds:.1f} s", status_problem(ended, 128 + number)),
            ("", unless(further <= 1, f"{further} more steps")),
            (
                place_in_words(place),
                unless(_steps_of(place) == child.watch.steps, f"{child.watch.steps} steps were done"),
            ),
            (EQUAL, equality_problem(bench.resumed(run))),
        )
    run = bench.folder("stopped")
    child = bench.start(run, faults=[at_step("stage2", _STEP, lambda: time.sleep(10))])
    child.wait_until(_in_stage2)
    time.sleep(_SLOW)
    child.send(signal.SIGTERM)
    time.sleep(2 * _SLOW)
    sent = time.monotonic()
    child.send(signal.SIGTERM)
    ended = child.wait()
    seconds = time.monotonic() - sent
    yield judge(
        "stop",
        "SIGTERM twice, in a step of ten seconds",
        (f"status {ended.status} after {seconds:.1f} s", status_problem(ended, 128 + signal.SIGTERM)),
        ("", unless(seconds < 2, "not at once")),
        ("", file_problem(unreadable(run))),
        (EQUAL, equality_problem(bench.resumed(run))),
    )


def _in_stage2(watch: Watch) -> bool:
    return watch.phase == "stage2" and watch.steps >= _STEP - 1


def _steps_of(place: tuple[str, int, int] | None) -> int:
    return (place[1] - 1) * _BATCHES + place[2] if place and place[0] == "stage2" else -1


def disk(bench: Bench) -> Iterator[Row]:
    """A full disk, simulated by the limit on the size of files."""
    never, always = {"SOLVER.SAVE_EVERY_MIN": 0.0}, {"SOLVER.SAVE_EVERY_MIN": 1e-9}
    last = 2 * _BATCHES  # step of epoch 2, at whose end a checkpoint is written
    cases: list[tuple[str, dict[str, float], Fault, str]] = [
        ("`last.pt`", always, at_step("stage2", _STEP, limit_files), "last.pt"),
        ("a checkpoint", never, at_step("stage2", last, limit_files), "toy_2.pth"),
        ("`metrics.jsonl`", {}, full_disk_for_metrics, "metrics.jsonl"),
    ]
    for what, changed, fault, named in cases:
        run = bench.folder("full")
        ended = bench.run(run, changed, faults=[fault])
        place, left = progress(run), [path.name for path in run.glob(".*")]
        yield judge(
            "disk",
            f"disk full while {what} is written",
            _ended_in_one_line(ended, named, "File too large"),
            (place_in_words(place), unless(place is not None, "no last.pt")),
            ("", file_problem([*unreadable(run), *left])),
            (EQUAL, equality_problem(bench.resumed(run))),
        )
    run = bench.folder("full")
    ended = bench.run(run, faults=[full_disk_for_log])
    warnings = sum("the log goes on here only" in line for line in ended.out.splitlines())
    yield judge(
        "disk",
        "disk full while the log is written",
        ("goes on with one warning", unless(warnings == 1 and not ended.err, f"{warnings} warnings")),
        ("equal to an undisturbed run", equality_problem(differences(run, bench.reference()))),
        ("", status_problem(ended, 0)),
    )


def _ended_in_one_line(ended: Ended, *words: str) -> tuple[str, str]:
    return f"status {ended.status}, one line", status_problem(ended, 2) or line_problem(ended, *words)


def folder(bench: Bench) -> Iterator[Row]:
    """OUTPUT_DIR where nothing can be written; the superuser passes permissions."""
    file = bench.folder("file")
    file.write_text("not a folder")
    for what, place in (("a file", file), ("a folder of /proc", Path("/proc/reid-run"))):
        child = bench.start(place)
        ended = child.wait()
        yield judge(
            "folder",
            f"OUTPUT_DIR is {what}",
            _ended_in_one_line(ended, str(place)),
            (f"after {ended.seconds:.1f} s, before any step", unless(child.watch.steps == 0, "it trained")),
        )


def together(bench: Bench) -> Iterator[Row]:
    """A second run in the folder of a first one, which trains or has just been killed."""
    for resume, name in ((False, "a second run"), (True, "a second --resume")):
        run = bench.folder("shared")
        if resume:
            child = bench.start(run, faults=[slow_steps(_SLOW)])
            child.wait_until(_in_stage2)
            child.send(signal.SIGTERM)
            child.wait()
        first = bench.start(run, resume=resume, faults=[slow_steps(_SLOW)])
        first.wait_until(lambda watch: watch.phase == "stage2" and watch.steps > 1)
        second = bench.run(run, resume=resume)
        ended = first.wait()
        yield judge(
            "together",
            f"{name} in the folder of one that trains",
            _ended_in_one_line(second, str(run), f"process {first.process.pid} "),
            (
                "the first one ends undisturbed, equal",
                status_problem(ended, 0) or equality_problem(differences(run, bench.reference())),
            ),
        )
    changed = {"DATALOADER.NUM_WORKERS": 1}
    run = bench.folder("shared")
    child = bench.start(run, changed, faults=[slow_steps(_SLOW)])
    child.wait_until(_in_stage2)
    workers = psutil.Process(child.process.pid).children(recursive=True)
    child.send(signal.SIGKILL)
    child.wait()
    alive = sum(worker.is_running() for worker in workers)
    yield judge(
        "together",
        "a run killed, and the next one started at once",
        (f"{alive} processes that loaded images were still there", unless(alive > 0, "none was left")),
        (EQUAL, equality_problem(bench.resumed(run, changed))),
    )


def image(bench: Bench) -> Iterator[Row]:
    """A training image is deleted in mid-run."""
    path = min(bench.data.rglob("bounding_box_train/*.jpg"))
    kept = bench.root / path.name
    shutil.copy2(path, kept)
    deleted = [at_step("stage2", _STEP, lambda: os.unlink(path))]
    try:
        run = bench.folder("deleted")
        ended = bench.run(run, faults=deleted)
        place = progress(run)
        shutil.copy2(kept, path)
        yield judge(
            "image",
            "image deleted in an epoch, ON_ERROR raise",
            _ended_in_one_line(ended, path.name),
            (place_in_words(place), unless(_steps_of(place) >= _STEP, "last.pt is of an earlier step")),
            (EQUAL, equality_problem(bench.resumed(run))),
        )
        ended = bench.run(bench.folder("deleted"), {"DATALOADER.ON_ERROR": "skip"}, faults=deleted)
    finally:
        shutil.copy2(kept, path)
    warned = sum("WARNING" in line and path.name in line for line in ended.out.splitlines())
    yield judge(
        "image",
        "image deleted in an epoch, ON_ERROR skip",
        ("goes on with a warning that names it", unless(warned == 1, f"{warned} warnings")),
        ("", status_problem(ended, 0)),
    )


def worker(bench: Bench) -> Iterator[Row]:
    """The process that loads images is killed in mid-run."""
    changed = {"DATALOADER.NUM_WORKERS": 1, "SOLVER.SAVE_EVERY_MIN": 0.0}
    run = bench.folder("worker")
    child = bench.start(run, changed, faults=[at_step("stage2", _STEP, kill_workers)])
    ended = child.wait()
    place = progress(run)
    lost = child.watch.steps - _steps_of(place)
    yield judge(
        "worker",
        "process that loads images killed",
        _ended_in_one_line(ended, "worker"),
        (f"{place_in_words(place)}, {lost} steps lost", unless(place is not None, "no last.pt")),
        (EQUAL, equality_problem(bench.resumed(run, changed))),
    )
