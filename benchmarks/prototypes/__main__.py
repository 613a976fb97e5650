"""The update of prototypes and the clustering of training images, beside textbook versions in the same run.

`make bench-prototypes`, or: python -m benchmarks.prototypes [--repeats N] [--seed N]

Every timing is a process of its own; its clock starts when the features are there. The textbook updates
sample by sample, and clusters by whole matrices of distances, where these fit into an ordinary machine.
Results that differ from the textbook's end the program.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import DBSCAN
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from benchmarks.measure import measure, median_of, run_alone
from benchmarks.ranking import textbook
from config.arguments import Parser
from loss import PrototypeMemory
from retrieval import cluster

WIDTH, LATENT_WIDTH = 1280, 64
BATCH, IMAGES, UPDATES = 256, 8, 20  # images in a batch, of each identity; updates in a timing
MOMENTUM = 0.2
DBSCAN_SETTINGS = {"eps": 0.5, "min_samples": 4}
K1, K2 = 30, 6
AGREED = 0.999  # adjusted Rand index of our clusters and the textbook's, whose V is float16


class Job(NamedTuple):
    """What is timed, how large, and whether the textbook can do it, too."""

    kind: str
    images: int
    identities: int
    has_textbook: bool = True


JOBS = {
    "update, 751 identities": Job("update", BATCH, 751),
    "update, 13,164 identities": Job("update", BATCH, 13_164),
    "clusters, 3,000 images": Job("clusters", 3_000, 150),
    "clusters, 12,936 images": Job("clusters", 12_936, 751),
    "clusters, 32,621 images": Job("clusters", 32_621, 1_041, has_textbook=False),
    "tiny update": Job("update", BATCH, 40),
    "tiny clusters": Job("clusters", 200, 20),
}


def draw(job: Job, seed: int) -> tuple[Tensor, Tensor]:
    """Features (N, D) around identity centres with their identities (N,); of a batch, each has eight."""
    generator = torch.Generator().manual_seed(seed)
    if job.kind == "update":
        pids = torch.randperm(job.identities, generator=generator)[: BATCH // IMAGES].repeat_interleave(
            IMAGES
        )
    else:
        pids = torch.randint(job.identities, (job.images,), generator=generator)
    centres = torch.randn(job.identities, LATENT_WIDTH, generator=generator)
    place = centres[pids] + 0.8 * torch.randn(len(pids), LATENT_WIDTH, generator=generator)
    return F.normalize(place @ torch.randn(LATENT_WIDTH, WIDTH, generator=generator)), pids


def prototypes_of(job: Job, seed: int) -> Tensor:
    """Prototypes (C, D) from before a batch."""
    generator = torch.Generator().manual_seed(seed + 1)
    return F.normalize(torch.randn(job.identities, WIDTH, generator=generator))


def update_ours(features: Tensor, pids: Tensor, prototypes: Tensor) -> Tensor:
    """As the programs do it."""
    memory = PrototypeMemory(momentum=MOMENTUM)
    memory.prototypes = prototypes
    for _ in range(UPDATES):
        memory.update(features, pids)
    return memory.prototypes


def update_textbook(features: Tensor, pids: Tensor, prototypes: Tensor) -> Tensor:
    """Similarities are read one by one, prototypes moved one by one."""
    for _ in range(UPDATES):
        members: dict[int, list[int]] = {}
        for index, pid in enumerate(pids.tolist()):
            members.setdefault(pid, []).append(index)
        for pid, indices in members.items():
            similarity = [(features[index] @ prototypes[pid]).item() for index in indices]
            hardest = features[indices[int(np.argmin(similarity))]]
            mixed = MOMENTUM * prototypes[pid] + (1 - MOMENTUM) * hardest
            prototypes[pid] = mixed / mixed.norm()
    return prototypes


def clusters_ours(features: Tensor, pids: Tensor, prototypes: Tensor) -> Tensor:
    """As the programs do it."""
    return cluster(features, k1=K1, k2=K2, **DBSCAN_SETTINGS)


def clusters_textbook(features: Tensor, pids: Tensor, prototypes: Tensor) -> Tensor:
    """DBSCAN on a whole matrix of distances."""
    distance = textbook.jaccard(features.numpy(), K1, K2)
    np.fill_diagonal(distance, 0)
    labels = DBSCAN(metric="precomputed", **DBSCAN_SETTINGS).fit_predict(np.maximum(distance, 0))
    return torch.from_numpy(labels)


Work = Callable[[Tensor, Tensor, Tensor], Tensor]  # features, pids, prototypes, which may be changed
WORK: dict[tuple[str, bool], Work] = {
    ("update", False): update_ours,
    ("update", True): update_textbook,
    ("clusters", False): clusters_ours,
    ("clusters", True): clusters_textbook,
}


def require_equal(job: Job, ours: Tensor, theirs: Tensor) -> None:
    """Raise ValueError where results differ by more than rounding explains."""
    if job.kind == "update":
        difference = float((ours - theirs).abs().max())
        if difference > 1e-5:
            raise ValueError(f"prototypes differ from the textbook's by {difference:.2g}, allowed is 1e-5")
    else:
        agreed = adjusted_rand_score(theirs.numpy(), ours.numpy())
        if agreed < AGREED:
            raise ValueError(
                f"clusters agree with the textbook's to {agreed:.4f}, allowed is {AGREED} or more"
            )


def check(name: str, seed: int) -> None:
    """Do a job both ways and compare."""
    job = JOBS[name]
    inputs = *draw(job, seed), prototypes_of(job, seed)
    results = (WORK[job.kind, way](*(part.clone() for part in inputs)) for way in (False, True))
    require_equal(job, *results)


def time_here(name: str, is_textbook: bool, seed: int) -> dict[str, Any]:
    """One timing, in this process."""
    job = JOBS[name]
    work, inputs = WORK[job.kind, is_textbook], (*draw(job, seed), prototypes_of(job, seed))
    if job.kind == "update":  # libraries prepare themselves
        work(*inputs)
    _, (seconds, megabytes) = measure(lambda: work(*inputs))
    return {"job": name, "textbook": is_textbook, "seconds": seconds, "megabytes": megabytes}


def timed(name: str, is_textbook: bool, args: argparse.Namespace) -> dict[str, Any]:
    """The median of several timings, each in a process of its own; prints a JSON line for each."""
    options = ["--jobs", name, "--seed", str(args.seed), "--here", "textbook" if is_textbook else "ours"]
    runs = []
    for _ in range(args.repeats):
        runs.append(run_alone("benchmarks.prototypes", options))
        print(json.dumps(runs[-1]), flush=True)
    return median_of(runs)


def table(results: Sequence[tuple[dict[str, Any], dict[str, Any] | None]]) -> str:
    """A Markdown table of (ours, textbook or None)."""
    lines = ["| job | seconds | MB above the features | textbook | ratio |", "|---|---|---|---|---|"]
    for ours, theirs in results:
        cells = [ours["job"], f"{ours['seconds']:.3g}", f"{ours['megabytes']:.0f}", "–", "–"]
        if theirs:
            cells[3] = f"{theirs['seconds']:.3g} s, {theirs['megabytes']:.0f} MB"
            cells[4] = f"{theirs['seconds'] / ours['seconds']:.1f}×"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line for each timing and the table of medians at the end."""
    parser = Parser(description=__doc__)
    full = [name for name in JOBS if not name.startswith("tiny")]
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=full, metavar="JOB")
    parser.add_argument("--repeats", type=int, default=3, help="timings of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the features (default: %(default)s)")
    parser.add_argument("--here", choices=("ours", "textbook"), help="time this alone, once, in this process")
    args = parser.parse_args(argv)
    if args.here:
        print(json.dumps(time_here(args.jobs[0], args.here == "textbook", args.seed)))
        return
    results = []
    for name in args.jobs:
        theirs = None
        if JOBS[name].has_textbook:
            check(name, args.seed)
            theirs = timed(name, True, args)
        results.append((timed(name, False, args), theirs))
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
