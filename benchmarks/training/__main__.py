"""Training steps, loaders and feature extraction of ViTs, next to textbook versions in the same run.

python -m benchmarks.training [--jobs stage1 stage2 ...] [--repeats N] [--steps N] [--device cuda]

Jobs named `tbps…` are TBPS-CLIP's, where a caption counts as an image; `online…` are stage 1 with deep
prompts on image features of every step, where a prompt of `online-texts` counts as an image; the others are
CLIP-ReID's. Weights are random, images are noise or drawn people, captions are words in a row. Every timing
is a process of its own, which reports the median of its steps, after some that warm up; ours and the
textbook's take turns. A step of loaders and of extraction is a pass over some pictures. Peak memory is
measured in another process. Results that differ from the textbook's end the program.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measure import device_name, map_blocks, median_of, run_alone
from benchmarks.training import inputs, jobs, pairs, prompts, text_search
from benchmarks.training.jobs import Record, Settings
from config.arguments import Parser
from utils.device import select_device


class Job(NamedTuple):
    """A row of the table.

    Args:
        textbook: its counterpart.
        batch: images in a batch.
        target: what is to be reached, on the CPU.
        tolerance: allowed relative difference of losses or features.
        gpu_textbook: its counterpart on a GPU, if another one: there, research code trains in fp16.
        needs_gpu: not asked for on the CPU, where it would show nothing.
        size: of the images, (H, W).
        steps: that are timed.
    """

    textbook: str
    batch: int
    target: str = "–"
    tolerance: float = 1e-4
    gpu_textbook: str = ""
    needs_gpu: bool = False
    size: tuple[int, int] = (256, 128)
    steps: int = 5


MIXED = 5e-2  # of losses, where either of them is in mixed precision
# If |a - b| <= 0.044 |b|, the cosine of a and b is above 0.999.
MIXED_FEATURES = 0.044
TOLERANCE = {
    "images": 0,
    "digest": 0,
    "means": 2e-3,  # bicubic: some pixels differ by a grey level, 1/128 in the network's scale
    "loss_error": 1e-5,
    "gradient_error": 1e-5,
}
SQUARE = (224, 224)
JOBS = {
    "stage1": Job("stage1-textbook", 64, "≥ 10×", gpu_textbook="stage1-textbook-fp16"),
    "online": Job("online-textbook", 64, "≥ 1.5×", steps=3),
    "online-bf16": Job("online-textbook", 64, "≥ 2×", MIXED, "online-textbook-fp16", steps=3),
    "online-texts": Job("online-texts-textbook", 64, "≥ 4×"),
    "train-loader": Job("train-loader-textbook", 64, "≥ 2.2×"),
    "test-loader": Job("test-loader-textbook", 64, "≥ 2.5×"),
    "stage2": Job("stage2-textbook", 16, "≥ 1.08×"),
    "stage2-bf16": Job("stage2-textbook", 16, "≥ 1.6×", MIXED, "stage2-textbook-fp16"),
    "stage2-fp16": Job("stage2-textbook-fp16", 16, tolerance=MIXED, needs_gpu=True),
    "stage2-bf16-compile": Job("stage2-textbook-fp16", 16, tolerance=MIXED, needs_gpu=True),
    "stage2-micro": Job("stage2-textbook", 16, "≤ 35 % of the memory"),
    "extract": Job("extract-textbook", 32, "≥ 1.08×"),
    "extract-bf16": Job("extract-textbook", 32, "≥ 1.7×", MIXED_FEATURES),
    "extract-fp16": Job("extract-textbook", 32, tolerance=MIXED_FEATURES, needs_gpu=True),
    "tbps": Job("tbps-textbook", 16, "≥ 1.3×, ≤ 70 % of the memory", size=SQUARE, steps=3),
    "tbps-simplified": Job(
        "tbps-simplified-textbook", 16, "≥ 1.5×, ≤ 70 % of the memory", size=SQUARE, steps=3
    ),
    "tbps-bf16": Job("tbps-textbook-fp16", 16, tolerance=MIXED, needs_gpu=True, size=SQUARE),
    "tbps-loader": Job("tbps-loader-textbook", 64, "≥ 1×", size=SQUARE),
    "tbps-loader-simplified": Job("tbps-loader-textbook", 64, "≥ 5×", size=SQUARE),
    "tbps-texts": Job("tbps-texts-textbook", 64, tolerance=1e-5, size=SQUARE),
}
WORK: dict[str, Callable[[Settings], Record]] = {
    "stage1": partial(jobs.stage1, amp="auto"),
    "stage1-textbook": partial(jobs.stage1_textbook, amp="off"),
    "stage1-textbook-fp16": partial(jobs.stage1_textbook, amp="fp16"),
    "online": partial(prompts.online, amp="off"),
    "online-bf16": partial(prompts.online, amp="bf16"),
    "online-textbook": partial(prompts.online_textbook, amp="off"),
    "online-textbook-fp16": partial(prompts.online_textbook, amp="fp16"),
    "online-texts": prompts.texts,
    "online-texts-textbook": prompts.texts_textbook,
    "train-loader": inputs.train_loader,
    "train-loader-textbook": inputs.train_loader_textbook,
    "test-loader": inputs.test_loader,
    "test-loader-textbook": inputs.test_loader_textbook,
    "stage2": partial(jobs.stage2, keys={"SOLVER.AMP": "off"}),
    "stage2-bf16": partial(jobs.stage2, keys={"SOLVER.AMP": "bf16"}),
    "stage2-fp16": partial(jobs.stage2, keys={"SOLVER.AMP": "fp16"}),
    "stage2-bf16-compile": partial(jobs.stage2, keys={"SOLVER.AMP": "bf16", "SOLVER.COMPILE": True}),
    "stage2-micro": jobs.stage2_micro,
    "stage2-textbook": partial(jobs.stage2_textbook, amp="off"),
    "stage2-textbook-fp16": partial(jobs.stage2_textbook, amp="fp16"),
    "extract": partial(inputs.extraction, amp="off"),
    "extract-bf16": partial(inputs.extraction, amp="bf16"),
    "extract-fp16": partial(inputs.extraction, amp="fp16"),
    "extract-textbook": inputs.extraction_textbook,
    "tbps": partial(text_search.step, kind="full", keys={"SOLVER.AMP": "off"}),
    "tbps-bf16": partial(text_search.step, kind="full", keys={"SOLVER.AMP": "bf16"}),
    "tbps-textbook": partial(text_search.step_textbook, kind="full", amp="off"),
    "tbps-textbook-fp16": partial(text_search.step_textbook, kind="full", amp="fp16"),
    "tbps-simplified": partial(text_search.step, kind="simplified", keys={"SOLVER.AMP": "off"}),
    "tbps-simplified-textbook": partial(text_search.step_textbook, kind="simplified", amp="off"),
    "tbps-loader": partial(pairs.train_loader, kind="full"),
    "tbps-loader-simplified": partial(pairs.train_loader, kind="simplified"),
    "tbps-loader-textbook": pairs.train_loader_textbook,
    "tbps-texts": text_search.texts,
    "tbps-texts-textbook": text_search.texts_textbook,
}
_READ_PICTURES = ("train-loader", "test-loader", "extract", "tbps-loader")
_LONG = ("means", "features")  # not printed


def textbook_of(name: str, device_type: str) -> str:
    """The work that a job is compared with on a kind of device."""
    job = JOBS[name]
    return job.gpu_textbook if device_type == "cuda" and job.gpu_textbook else job.textbook


def measure_here(work: str, settings: Settings) -> Record:
    """One measurement, in this process."""
    if settings.quantity == "memory":
        map_blocks()
    record = {"work": work, "device": device_name(settings.device), "batch": settings.batch}
    return record | WORK[work](settings)


def measure_all(works: Mapping[str, Job], args: argparse.Namespace, data: Path | None) -> dict[str, Record]:
    """Median time and memory by work, of `works` and the jobs whose batch, size and steps are theirs.

    Each measurement is a process and prints a JSON line.
    """
    options = ["--model", args.model, "--seed", str(args.seed), "--device", args.device]
    options += ["--data", str(data)] if data else []

    def run(work: str, quantity: str) -> Record:
        job = works[work]
        own = ["--size", *map(str, job.size), "--steps", str(job.steps), "--batch", str(job.batch)]
        own += ["--quantity", quantity, "--here", work]
        record = run_alone("benchmarks.training", [*options, *own])
        print(json.dumps({name: value for name, value in record.items() if name not in _LONG}), flush=True)
        return record

    rounds = [{work: run(work, "time") for work in works} for _ in range(args.repeats)]
    return {work: run(work, "memory") | median_of([round_[work] for round_ in rounds]) for work in works}


def differences(ours: Record, theirs: Record) -> dict[str, float]:
    """How far results are apart, by name: losses and features relatively."""
    found = {name: ours[name] for name in ("loss_error", "gradient_error") if name in ours}
    found["images"] = abs(ours["images"] - theirs["images"])
    if "losses" in ours:
        steps = list(zip(ours["losses"], theirs["losses"], strict=True))
        if _trains_in_fp16(ours) or _trains_in_fp16(theirs):
            steps = steps[:1]  # a gradient scaler may leave out the first updates
        found["losses"] = max(abs(a[name] / b[name] - 1) for a, b in steps for name in b)
    if "digest" in ours:
        found["digest"] = int(ours["digest"] != theirs["digest"])
    if "means" in ours and not found["images"]:
        found["means"] = float(np.abs(np.subtract(ours["means"], theirs["means"])).max())
    if "features" in ours:
        apart = np.linalg.norm(np.subtract(ours["features"], theirs["features"]), axis=1)
        found["features"] = float((apart / np.linalg.norm(theirs["features"], axis=1)).max())
    return found


def _trains_in_fp16(record: Record) -> bool:
    return record["work"].endswith("-fp16")


def require_equal(ours: Record, theirs: Record) -> None:
    """Raise ValueError where results differ by more than rounding explains."""
    for name, difference in differences(ours, theirs).items():
        own = MIXED if _trains_in_fp16(theirs) else JOBS[ours["work"]].tolerance
        allowed = TOLERANCE.get(name, own)
        if not difference <= allowed:
            raise ValueError(
                f"{ours['work']}: {name} of {theirs['work']} are apart by {difference:.2g}, "
                f"allowed is {allowed:g}"
            )


def table(results: Sequence[tuple[Record, Record]]) -> str:
    """A Markdown table of (ours, textbook): ratios first, since seconds are those of one machine."""
    lines = [
        "| job | device | speed | memory | to reach | images/s | textbook | of the matmul rate | textbook "
        "| MB | textbook |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for ours, theirs in results:
        on_cpu = ours["device"] == "CPU"
        both = (ours, theirs)
        speeds = [record["images"] / record["seconds"] for record in both]
        cells = (
            f"{ours['work']}, batch {ours['batch']}",
            ours["device"],
            f"{speeds[0] / speeds[1]:.2f}×",
            f"{ours['megabytes'] / max(theirs['megabytes'], 1):.0%}",
            JOBS[ours["work"]].target if on_cpu else "–",
            *(f"{speed:.1f}" for speed in speeds),
            *(f"{record['share']:.0%}" if "share" in record else "–" for record in both),
            *(f"{record['megabytes']:.0f}" for record in both),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@contextlib.contextmanager
def pictures(given: Path | None, works: Mapping[str, Job], seed: int) -> Iterator[Path | None]:
    """DATASETS.ROOT_DIR of pictures for these works, drawn where none is given; None where none is needed."""
    batches = [job.batch for work, job in works.items() if work.startswith(_READ_PICTURES)]
    if given or not batches:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        inputs.draw_pictures(Path(folder), max(batches), seed)
        yield Path(folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line for each measurement and the table at the end."""
    args = _parse(argv)
    device = select_device(args.device)
    given = {name: getattr(args, name) for name in ("batch", "size", "steps") if getattr(args, name)}
    asked = {name: job._replace(**given) for name, job in JOBS.items()}
    if args.here:
        job = next(job for name, job in asked.items() if _is_of(args.here, name))
        with pictures(args.data, {args.here: job}, args.seed) as data:
            settings = Settings(
                args.model, tuple(job.size), job.batch, job.steps, args.seed, device, data, args.quantity
            )
            print(json.dumps(measure_here(args.here, settings)))
        return
    names = args.jobs or [name for name, job in JOBS.items() if device.type == "cuda" or not job.needs_gpu]
    works = {work: asked[name] for name in names for work in (name, textbook_of(name, device.type))}
    with pictures(args.data, works, args.seed) as data:
        medians = measure_all(works, args, data)
    results = [(medians[name], medians[textbook_of(name, device.type)]) for name in names]
    for ours, theirs in results:
        require_equal(ours, theirs)
    print(f"\n{table(results)}")


def _is_of(work: str, name: str) -> bool:
    return work in (name, *(textbook_of(name, kind) for kind in ("cpu", "cuda")))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--jobs", nargs="+", choices=JOBS, metavar="JOB", help=f"of {', '.join(JOBS)}")
    add("--repeats", type=int, default=3, help="processes for each timing (default: %(default)s)")
    add("--steps", type=int, help="timed steps of a process (default: by job)")
    add("--batch", type=int, help="images in a batch, a multiple of 4 (default: by job)")
    add("--model", default="ViT-B-16", help="MODEL.NAME (default: %(default)s)")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="of the images (default: by job)")
    add(
        "--data", type=Path, metavar="FOLDER", help="DATASETS.ROOT_DIR of Market-1501 (default: drawn people)"
    )
    add("--seed", type=int, default=0, help="of weights, inputs and order (default: %(default)s)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
    add("--here", choices=WORK, metavar="WORK", help="measure a job or a textbook alone, in this process")
    add("--quantity", choices=("time", "memory"), default="time", help="of --here (default: %(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
