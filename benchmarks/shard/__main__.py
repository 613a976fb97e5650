"""Memory of each process under torchrun with SOLVER.SHARD 'none' and 'zero1', after two steps on the CPU.

`make bench-shard`, or: python -m benchmarks.shard [--model NAME] [--processes 2 4 ...]

Steps are those of the ViT baseline of people with random weights, on noise; every process has four images.
State is the bytes of all tensors that the optimizer holds, to the byte; resident is the memory of the
process, with what the program itself takes. Both are of the process that has most. Losses that differ between
the two ways end the program.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import psutil
import torch

from benchmarks.measure import ROOT, map_blocks, run_alone
from config import cfg_base
from config.arguments import Parser
from config.load import load_config
from datasets import ImageBatch
from loss import make_loss
from model import clip_config, make_model
from processor import make_plan
from processor.engine import Stage, prepare, train_step
from processor.recipes import ImageObjective
from utils.distributed import gather_objects, is_first, process_group, rank, world_size
from utils.precision import training_precision
from utils.seed import seed_everything

CLASSES, STEPS = 751, 2
IMAGES, INSTANCES = 4, 2  # of a process, of each identity
SIZE = (256, 128)
TOLERANCE = 1e-5  # of losses, relatively
CONFIG = ROOT / "configs/person/vit_base.yml"


def make_stage(name: str, shard: str) -> Stage:
    """The baseline with random weights, and one batch of noise, this process's share."""
    patch = clip_config(name)["vision_cfg"]["patch_size"]
    settings = {"MODEL.NAME": name, "MODEL.PRETRAIN_CHOICE": "none", "MODEL.STRIDE_SIZE": [patch, patch]}
    settings |= {"DATALOADER.NUM_INSTANCE": INSTANCES, "SOLVER.IMS_PER_BATCH": IMAGES * world_size()}
    settings["SOLVER.SHARD"] = shard
    config = load_config(cfg_base, CONFIG, [word for pair in settings.items() for word in pair])
    seed_everything(config.SOLVER.SEED)
    model = make_model(config, CLASSES, 1, 1)
    objective, plan = ImageObjective(model, make_loss(config, CLASSES)), make_plan(config, "main")
    whole = torch.randn(IMAGES * world_size(), 3, *SIZE)
    share = slice(rank() * IMAGES, (rank() + 1) * IMAGES)
    pids, none = torch.arange(len(whole)) // INSTANCES, torch.zeros(IMAGES, dtype=torch.int64)
    batch = ImageBatch(whole[share].clone(), pids[share], none, none, [])
    optimizer = plan.make_optimizer(model.named_parameters())
    return Stage("shard", objective, [batch], [batch], optimizer, plan)


def measure_here(name: str, shard: str) -> dict[str, Any]:
    """Losses of the steps, and bytes by process; all processes of this run must call it."""
    map_blocks()
    device, stage = torch.device("cpu"), make_stage(name, shard)
    precision = training_precision("off", device)
    forward = prepare(stage, device, precision)
    stage.objective.train()
    losses = []
    for step in range(STEPS):
        for group in stage.optimizer.param_groups:
            group["lr"] = stage.plan.schedule(1 + step) * group["lr_scale"]
        losses.append(float(train_step(stage, stage.loader[0], precision, forward).loss))
    kept = [value for state in stage.optimizer.state.values() for value in state.values()]
    state = sum(value.numel() * value.element_size() for value in kept)
    return {
        "processes": world_size(),
        "shard": shard,
        "losses": losses,
        "state": gather_objects(state),
        "resident": gather_objects(psutil.Process().memory_info().rss),
    }


def measure_all(name: str, processes: Sequence[int]) -> list[dict[str, Any]]:
    """The records of both ways for each number of processes; prints a JSON line for each."""
    records = []
    for count in processes:
        for shard in ("none", "zero1") if count > 1 else ("none",):
            launch = ["--standalone", f"--nproc_per_node={count}", "-m", "benchmarks.shard"]
            records.append(run_alone("torch.distributed.run", [*launch, "--model", name, "--here", shard]))
            print(json.dumps(records[-1]), flush=True)
    return records


def require_equal(records: Sequence[dict[str, Any]]) -> None:
    """Raise ValueError where the losses of the two ways differ."""
    for one, other in pairwise(records):
        if one["processes"] != other["processes"]:
            continue
        apart = max(abs(b / a - 1) for a, b in zip(one["losses"], other["losses"], strict=True))
        if not apart <= TOLERANCE:
            raise ValueError(
                f"losses of {one['processes']} processes differ by {apart:.2g}, allowed is {TOLERANCE:g}"
            )


def table(records: Sequence[dict[str, Any]]) -> str:
    """A Markdown table, in MB (10^6 bytes) of the process that has most."""
    lines = ["| processes | `SOLVER.SHARD` | state, MB | resident, MB |", "|---|---|---|---|"]
    for record in records:
        state, resident = (f"{max(record[name]) / 1e6:,.1f}" for name in ("state", "resident"))
        lines.append(f"| {record['processes']} | `{record['shard']}` | {state} | {resident} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line for each run and the table at the end."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16", help="MODEL.NAME (default: %(default)s)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--here", choices=("none", "zero1"), help="be one of the processes of a run")
    args = parser.parse_args(argv)
    if args.here:
        with process_group(torch.device("cpu")):
            record = measure_here(args.model, args.here)
            if is_first():
                print(json.dumps(record))
        return
    records = measure_all(args.model, args.processes)
    require_equal(records)
    print(f"\n{table(records)}")


if __name__ == "__main__":
    main()
