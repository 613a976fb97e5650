"""Evaluation, re-ranking and search by text at the sizes of public data sets, next to textbook versions.

`make bench-retrieval`, or: python -m benchmarks.ranking [--data market msmt17 cuhk_pedes] [--repeats N]

Features are drawn: unit vectors around identity centres, shifted by the camera, images of different
difficulty; those of texts are drawn like those of images. Every timing is a process of its own; its clock
starts when the features are there. Results that differ from the textbook's end the program.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import measure, median_of, run_alone
from benchmarks.ranking import textbook
from config.arguments import Parser
from retrieval import FeatureSet, evaluate, evaluate_text_search, k_reciprocal_blocks
from utils.device import select_device

LATENT_WIDTH = 48
RERANK = {"k1": 50, "k2": 15, "lam": 0.3}
TOLERANCE = {"mAP": 1e-5, "cmc": 1e-3}  # float32 distances round differently: some near ties change places

Result = tuple[NDArray[np.floating], float]


class Size(NamedTuple):
    """How large a data set's test is, the width of its features, and the works that are timed on it.

    `is_dense` says whether dense matrices of it fit into an ordinary machine.
    """

    queries: int
    gallery: int
    identities: int
    cameras: int
    is_dense: bool
    width: int = 1280
    works: tuple[str, ...] = ("evaluate", "rerank")


SIZES = {
    "market": Size(3368, 15913, 750, 6, is_dense=True),
    "msmt17": Size(11659, 82161, 3060, 15, is_dense=False),
    "cuhk_pedes": Size(6156, 3074, 1000, 1, is_dense=True, width=512, works=("search",)),
    "tiny": Size(60, 300, 12, 3, is_dense=True),
}
TARGETS = {
    ("market", "evaluate"): "≥ 3×, ≤ 300 MB",
    ("msmt17", "evaluate"): "≤ 120 s, ≤ 1000 MB",
    ("market", "rerank"): "≥ 6×, ≤ 1500 MB",
    ("msmt17", "rerank"): "≤ 600 s, ≤ 6000 MB",
}


def draw(size: Size, seed: int) -> tuple[FeatureSet, FeatureSet]:
    """Query and gallery; a sixth of the gallery are distractors of pid 0."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    centres = normal(size.identities, LATENT_WIDTH)
    shifts = 0.3 * normal(size.cameras, LATENT_WIDTH)
    spread = normal(LATENT_WIDTH, size.width)

    def part(count: int, distractors: int) -> FeatureSet:
        pids = torch.randint(size.identities, (count,), generator=generator)
        camids = torch.randint(size.cameras, (count,), generator=generator)
        difficulty = 0.7 * torch.exp(0.4 * normal(count, 1))
        place = centres[pids] + shifts[camids] + difficulty * normal(count, LATENT_WIDTH)
        place[:distractors] = normal(distractors, LATENT_WIDTH)
        pids += 1
        pids[:distractors] = 0
        features = place @ spread
        features /= torch.linalg.vector_norm(features, dim=1, keepdim=True)
        return FeatureSet(features, pids, camids, [f"{i}.jpg" for i in range(count)])

    return part(size.queries, 0), part(size.gallery, size.gallery // 6)


# ---- what is timed: (CMC, mAP)


def evaluate_ours(query: FeatureSet, gallery: FeatureSet) -> Result:
    """Evaluation as the programs do it."""
    metrics = evaluate(query, gallery)
    return metrics.cmc, metrics.mAP


def rerank_ours(query: FeatureSet, gallery: FeatureSet) -> Result:
    """Re-ranking, streamed into the evaluation, as the programs do it."""
    metrics = evaluate(query, gallery, rerank=partial(k_reciprocal_blocks, **RERANK))
    return metrics.cmc, metrics.mAP


def evaluate_textbook(query: FeatureSet, gallery: FeatureSet) -> Result:
    """Evaluation by an argsort of the whole matrix."""
    distance = textbook.squared_distances(query.features.numpy(), gallery.features.numpy())
    return _evaluate_dense(distance, query, gallery)


def rerank_textbook(query: FeatureSet, gallery: FeatureSet) -> Result:
    """Re-ranking and evaluation over whole matrices."""
    distance = textbook.rerank(query.features.numpy(), gallery.features.numpy(), **RERANK)
    return _evaluate_dense(distance, query, gallery)


def search_ours(query: FeatureSet, gallery: FeatureSet) -> Result:
    """Images are ranked for texts as the programs do it."""
    metrics = evaluate_text_search(query.features, gallery.features, query.pids, gallery.pids)
    return metrics.cmc, metrics.mAP


def search_textbook(query: FeatureSet, gallery: FeatureSet) -> Result:
    """The same by a sort of the whole matrix of similarities."""
    return textbook.search(query.features, gallery.features, query.pids, gallery.pids)


def _evaluate_dense(distance: NDArray[np.floating], query: FeatureSet, gallery: FeatureSet) -> Result:
    labels = (part.numpy() for part in (query.pids, query.camids, gallery.pids, gallery.camids))
    return textbook.evaluate(distance, *labels)


WORK: dict[str, Callable[[FeatureSet, FeatureSet], Result]] = {
    "evaluate": evaluate_ours,
    "evaluate-textbook": evaluate_textbook,
    "rerank": rerank_ours,
    "rerank-textbook": rerank_textbook,
    "search": search_ours,
    "search-textbook": search_textbook,
}


def time_here(work: str, data: str, seed: int, device: str) -> dict[str, Any]:
    """One timing, in this process."""
    # A textbook's features are in the processor's memory, as its NumPy wants them.
    place = select_device("cpu" if work.endswith("-textbook") else device)
    query, gallery = (
        FeatureSet(part.features.to(place), part.pids, part.camids, part.paths)
        for part in draw(SIZES[data], seed)
    )
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
        held = torch.cuda.memory_allocated(place)
    (cmc, mean_precision), (seconds, megabytes) = measure(partial(WORK[work], query, gallery))
    record = {"data": data, "work": work, "device": "CPU", "seconds": seconds, "megabytes": megabytes}
    if place.type == "cuda":
        record["device"] = torch.cuda.get_device_name(place)
        record["gpu_megabytes"] = (torch.cuda.max_memory_allocated(place) - held) / 1e6
    return record | {"mAP": mean_precision, "cmc": list(map(float, cmc))}


def timed(work: str, data: str, args: argparse.Namespace) -> dict[str, Any]:
    """The median of several timings, each in a process of its own; prints a JSON line for each."""
    options = ["--data", data, "--seed", str(args.seed), "--device", args.device, "--here", work]
    runs = []
    for _ in range(args.repeats):
        runs.append(run_alone("benchmarks.ranking", options))
        print(json.dumps({name: value for name, value in runs[-1].items() if name != "cmc"}), flush=True)
    return median_of(runs)


def require_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise ValueError where results differ by more than the rounding of distances explains."""
    for name, tolerance in TOLERANCE.items():
        difference = np.abs(np.subtract(ours[name], theirs[name])).max()
        if difference > tolerance:
            raise ValueError(
                f"{ours['data']}, {ours['work']}: {name} differs from the textbook's by {difference:.2g}, "
                f"allowed is {tolerance:g}"
            )


def table(results: Sequence[tuple[dict[str, Any], dict[str, Any] | None]]) -> str:
    """A Markdown table of (ours, textbook or None)."""
    lines = [
        "| job | device | seconds | MB above the features | textbook | ratio | to reach |",
        "|---|---|---|---|---|---|---|",
    ]
    for ours, theirs in results:
        size = SIZES[ours["data"]]
        textbook_cell, ratio = "–", "–"
        if theirs:
            textbook_cell = f"{theirs['seconds']:.1f} s, {theirs['megabytes']:.0f} MB"
            ratio = f"{theirs['seconds'] / ours['seconds']:.1f}×"
        cells = (
            f"{ours['work']} {ours['data']}, {size.queries:,} × {size.gallery:,}",
            ours["device"],
            f"{ours['seconds']:.1f}",
            f"{ours.get('gpu_megabytes', ours['megabytes']):.0f}",
            textbook_cell,
            ratio,
            TARGETS.get((ours["data"], ours["work"]), ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line for each timing and the table of medians at the end."""
    parser = Parser(description=__doc__)
    parser.add_argument("--data", nargs="+", choices=SIZES, default=["market", "msmt17", "cuhk_pedes"])
    parser.add_argument("--repeats", type=int, default=3, help="timings of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the features (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
    parser.add_argument("--here", choices=WORK, help="time this alone, once, in this process")
    args = parser.parse_args(argv)
    if args.here:
        print(json.dumps(time_here(args.here, args.data[0], args.seed, args.device)))
        return
    results = []
    for data in args.data:
        for work in SIZES[data].works:
            ours, theirs = timed(work, data, args), None
            if SIZES[data].is_dense:
                theirs = timed(f"{work}-textbook", data, args)
                require_equal(ours, theirs)
            results.append((ours, theirs))
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
