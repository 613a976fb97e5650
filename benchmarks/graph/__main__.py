"""Renewing the graph of identities from their learned prompts, beside a textbook version.

`make bench-graph`, or: python -m benchmarks.graph [--repeats N] [--seed N]

A renewal encodes the prompts of all identities by ViT-B/16's text tower (random weights) and finds the 15
nearest of each, as batches of 16 identities need them. The textbook encodes one identity after the other, all
77 positions, and sorts the whole matrix of distances. Every timing is a process of its own; the textbook's is
taken once. Graphs that differ by more than rounding explains end the program.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import measure, median_of, run_alone
from benchmarks.training.textbook import TextModel
from config import cfg
from config.arguments import Parser
from config.load import load_config
from datasets import GraphSampler
from model import ReIDModel, build_clip, clip_config, make_model
from processor.recipes import encode_identities
from utils.seed import seed_everything

BATCH, INSTANCES = 64, 4
NEIGHBOURS = BATCH // INSTANCES - 1
AGREED = 1e-4  # difference of mean distances to the neighbours, relative


class Job(NamedTuple):
    """How many identities, and the tower: a name, or a file that describes it."""

    identities: int
    model: str = "ViT-B-16"


JOBS = {
    "751 identities": Job(751),
    "13,164 identities": Job(13_164),
    "tiny": Job(20, "configs/demo/small_clip.json"),
}


def build_model(job: Job, seed: int) -> ReIDModel:
    """A model of two stages; its random weights, prompts among them, depend only on the seed."""
    pairs = ["MODEL.NAME", job.model, "MODEL.PRETRAIN_CHOICE", "none"]
    seed_everything(seed)
    return make_model(load_config(cfg, "", pairs), job.identities, 1, 1).eval()


@torch.no_grad()
def renew_ours(model: ReIDModel, job: Job) -> tuple[Tensor, Tensor]:
    """As the programs do it: features (C, P) and neighbours (C, 15)."""
    sampler = GraphSampler(range(job.identities), BATCH, INSTANCES, seed=0)
    features = encode_identities(model)
    sampler.set_features(features)
    return features, torch.from_numpy(sampler.neighbours)


@torch.no_grad()
def renew_textbook(model: TextModel, job: Job) -> tuple[Tensor, Tensor]:
    """Identity by identity, then by one matrix."""
    features = torch.cat([model(torch.tensor([pid])) for pid in range(job.identities)])
    unit = F.normalize(features)
    distance = 1 - unit @ unit.T
    distance.fill_diagonal_(torch.inf)
    return features, distance.argsort(dim=1)[:, :NEIGHBOURS]


def prepared(name: str, is_textbook: bool, seed: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """The renewal of a job, ready to begin."""
    job = JOBS[name]
    model = build_model(job, seed)
    if not is_textbook:
        return lambda: renew_ours(model, job)
    clip = build_clip(clip_config(job.model), None)
    textbook = TextModel(clip, model.state_dict(), model.prompt_learner.length - 1).eval()
    return lambda: renew_textbook(textbook, job)


def mean_distance(features: Tensor, neighbours: Tensor) -> float:
    """The mean cosine distance of identities (C, P) to their neighbours (C, n)."""
    unit = F.normalize(features.double())
    return float(1 - torch.stack([unit[row] @ unit[own] for own, row in enumerate(neighbours)]).mean())


def time_here(name: str, is_textbook: bool, seed: int) -> dict[str, Any]:
    """One timing, in this process."""
    work = prepared(name, is_textbook, seed)
    found, (seconds, megabytes) = measure(work)
    measured = {"seconds": seconds, "megabytes": megabytes, "distance": mean_distance(*found)}
    return {"job": name, "textbook": is_textbook, **measured}


def require_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise ValueError where the neighbours of one graph are nearer than those of the other."""
    difference = abs(ours["distance"] / theirs["distance"] - 1)
    if difference > AGREED:
        raise ValueError(
            f"neighbours are {difference:.2g} nearer or farther than the textbook's, allowed is {AGREED}"
        )


def timed(name: str, is_textbook: bool, repeats: int, seed: int) -> dict[str, Any]:
    """The median of several timings, each in a process of its own; prints a JSON line for each."""
    options = ["--jobs", name, "--seed", str(seed), "--here", "textbook" if is_textbook else "ours"]
    runs = []
    for _ in range(repeats):
        runs.append(run_alone("benchmarks.graph", options))
        print(json.dumps(runs[-1]), flush=True)
    return median_of(runs)


def table(results: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """A Markdown table of (ours, textbook)."""
    lines = ["| job | seconds | MB above the model | textbook | ratio |", "|---|---|---|---|---|"]
    for ours, theirs in results:
        times = theirs["seconds"] / ours["seconds"]
        textbook = f"{theirs['seconds']:.3g} s, {theirs['megabytes']:.0f} MB"
        cells = [ours["job"], f"{ours['seconds']:.3g}", f"{ours['megabytes']:.0f}", textbook, f"{times:.1f}×"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line for each timing and the table of medians at the end."""
    parser = Parser(description=__doc__)
    full = [name for name in JOBS if name != "tiny"]
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=full, metavar="JOB")
    parser.add_argument("--repeats", type=int, default=3, help="timings of ours (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: %(default)s)")
    parser.add_argument("--here", choices=("ours", "textbook"), help="time this alone, once, in this process")
    args = parser.parse_args(argv)
    if args.here:
        print(json.dumps(time_here(args.jobs[0], args.here == "textbook", args.seed)))
        return
    results = []
    for name in args.jobs:
        theirs = timed(name, True, 1, args.seed)
        ours = timed(name, False, args.repeats, args.seed)
        require_equal(ours, theirs)
        results.append((ours, theirs))
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
