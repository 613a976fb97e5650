"""Batches from a graph and captions in CLIP-ReID, on drawn people.

`make bench-reid-task`, or: python -m benchmarks.reid_task [--seeds N ...] [--rows NAME ...] [--out FOLDER]

CLIP is a text search model of other drawn people and sentences, as for `benchmarks.prompts`, with the same
settings of the stages; a row says what is changed. Each training picture has two sentences, which a row with
captions has for a share of the pictures. Batches of both stages have 16 identities where they are drawn from
a graph.
"""

import argparse
import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.prompts.__main__ import FULL, KEYS, TOWER, Record, Scale, read_costs, run_program, train_clip
from config.arguments import Parser
from datasets.drawn import FOLDER, draw_market1501
from utils.untrusted.metrics_files import read_epochs

CONFIG = "configs/person/vit_clipreid.yml"
CAPTIONS = "captions.json"


class Row(NamedTuple):
    """A change of settings, and the share of training pictures that have captions."""

    keys: dict[str, Any]
    share: float = 0.0


_IN_PROMPTS = {"SOLVER.STAGE1.CAPTIONS": True}
ROWS = {
    "CLIP-ReID": Row({}),
    "graph in stage 1": Row({"SOLVER.STAGE1.SAMPLER": "graph"}),
    "graph in stage 2": Row({"DATALOADER.SAMPLER": "graph"}),
    "captions in stage 1, 23 %": Row(_IN_PROMPTS, 0.23),
    "captions in stage 1, 100 %": Row(_IN_PROMPTS, 1.0),
    "the same, with learned tokens": Row(_IN_PROMPTS | {"MODEL.PROMPT.IN_CAPTIONS": True}, 1.0),
    "captions in stage 2, 100 %": Row({"SOLVER.STAGE2.CAPTIONS": 0.7}, 1.0),
    "stage 0, 23 %": Row({}, 0.23),
    "stage 0, 100 %": Row({}, 1.0),
}
_STAGE0 = {"SOLVER.STAGE0.BASE_LR": 1e-4, "SOLVER.STAGE0.IMAGE_LR": 1e-4, "SOLVER.STAGE0.TEXT_LR": 1e-4}


def describe_some(folder: Path, share: float, seed: int) -> Path:
    """A file with the captions of that share of the training pictures."""
    texts = json.loads((folder / CAPTIONS).read_text(encoding="utf-8"))
    names = random.Random(seed).sample(sorted(texts), round(share * len(texts)))
    path = folder.parent / f"captions_{share:g}.json"
    path.write_text(json.dumps({name: texts[name] for name in names}), encoding="utf-8")
    return path


def run_row(name: str, seed: int, clip: Path, out: Path, scale: Scale) -> Record:
    """Rates and costs of one row on the people of this seed, which are drawn where they are not there."""
    data, row, epochs = out / f"people{seed}", ROWS[name], scale.epochs[1]
    if not (data / FOLDER).is_dir():
        drawn = {"train_ids": scale.train_ids, "test_ids": scale.test_ids, "captions": 2, "seed": seed}
        draw_market1501(data, **drawn)
    run = out / f"{list(ROWS).index(name)}_{seed}"
    keys = TOWER | KEYS | scale.keys() | row.keys
    keys |= {"MODEL.PRETRAIN_PATH": clip, "DATASETS.ROOT_DIR": data, "SOLVER.SEED": seed, "OUTPUT_DIR": run}
    if row.share:
        keys["DATASETS.CAPTIONS"] = describe_some(data / FOLDER, row.share, seed)
    if name.startswith("stage 0"):
        plan = {
            "MAX_EPOCHS": epochs // 2,
            "CHECKPOINT_PERIOD": epochs,
            "EVAL_PERIOD": epochs,
            "WARMUP_ITERS": 2,
        }
        keys |= _STAGE0 | {f"SOLVER.STAGE0.{key}": value for key, value in plan.items()}
    run_program("train_clipreid.py", ["--config_file", CONFIG], keys)
    last = [epoch for epoch in read_epochs(run / "metrics.jsonl") if epoch.stage == "stage2"][-1]
    return {"row": name, "seed": seed, "rank1": last.rank1, "mAP": last.mAP, **read_costs(run)}


def table(records: Sequence[Record]) -> str:
    """A Markdown table: means over the seeds, with the least and the largest of rates."""
    lines = [
        "| | Rank-1 | mAP | against the first row, mAP | s an epoch of stage 1 | of stage 2 |",
        "|---|---|---|---|---|---|",
    ]
    first = {record["seed"]: record["mAP"] for record in records if record["row"] == "CLIP-ReID"}
    for name in dict.fromkeys(record["row"] for record in records):
        own = [record for record in records if record["row"] == name]
        cells = [name]
        for rate in ("rank1", "mAP"):
            values = [100 * record[rate] for record in own]
            cells.append(f"{statistics.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})")
        gains = [100 * (record["mAP"] - first[record["seed"]]) for record in own if record["seed"] in first]
        cells.append(
            f"{statistics.mean(gains):+.1f} ({min(gains):+.1f} to {max(gains):+.1f})" if gains else "–"
        )
        cells += [
            f"{statistics.mean(r['seconds'][stage] for r in own):.2f}" for stage in ("stage1", "stage2")
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None, scale: Scale = FULL) -> None:
    """Print one JSON line for each row and seed, and the table at the end."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--clip", type=Path, metavar="FILE", help="of an earlier run (default: train one)")
    parser.add_argument("--out", type=Path, default=Path("logs/reid_task_bench"), metavar="FOLDER")
    args = parser.parse_args(argv)
    out = args.out.resolve()
    clip = (args.clip or train_clip(out, scale)).resolve()
    records = []
    for seed in args.seeds:
        for name in args.rows:
            records.append(run_row(name, seed, clip, out, scale))
            print(json.dumps(records[-1]), flush=True)
    print(f"\n{table(records)}")


if __name__ == "__main__":
    main()
