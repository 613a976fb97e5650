"""The files in configs/small next to the colour histogram and the demo's settings, on a few hundred images.

`make bench-small`, or: python -m benchmarks.small [--seeds N ...] [--rows NAME ...] [--folder FOLDER]
[--out FOLDER] [KEY VALUE ...]

Without a folder, the images are those of 20 drawn people to learn from and 40 others for the test, others
for each seed. A folder is own images as `DATASETS.NAMES` csv or folder reads them. Settings behind the
options go to all rows. CLIP and a published re-id model are not at hand for this: small models of drawn
people stand in for them: a search by sentence (`tools/draw_people.py --captions`, train_tbps.py; `make
demo-text` has the people of seed 1) and the model of other people of `benchmarks.finetune`, with rates for
towers of that size.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.finetune.__main__ import FINE_RATE, FULL, Scale, train_others
from benchmarks.measure import ROOT
from benchmarks.prompts.__main__ import Record, run_program
from config.arguments import Parser
from datasets.drawn import draw_market1501
from utils.untrusted.metrics_files import read_epochs

HISTOGRAM = "colour histogram"
_RATES = re.compile(r"Rank-1 ([\d.]+)%, mAP ([\d.]+)%")
_SMALL = {"INPUT.SIZE_TRAIN": [128, 64], "INPUT.SIZE_TEST": [128, 64], "INPUT.PADDING": 8}
# What the small tower of the re-id file has been trained and is tested with.
_OF_SCRATCH = _SMALL | {
    "INPUT.PIXEL_MEAN": [0.485, 0.456, 0.406],
    "INPUT.PIXEL_STD": [0.229, 0.224, 0.225],
    "TEST.NECK_FEAT": "after",
}


class Row(NamedTuple):
    """A program with a file of settings and what a small tower changes; `needs` names a file of weights."""

    program: str
    config: str
    keys: Mapping[str, Any] = {}
    needs: str = ""


ROWS = {
    "demo's settings": Row("train_clipreid.py", "demo/clipreid.yml"),
    "scratch_base.yml": Row("train.py", "small/scratch_base.yml"),
    "vit_base.yml from drawn people": Row(
        "train.py",
        "small/vit_base.yml",
        {"MODEL.NAME": "configs/demo/small_clip.json", "SOLVER.BASE_LR": FINE_RATE, **_OF_SCRATCH},
        needs="MODEL.REID_WEIGHT",
    ),
    "vit_clipreid.yml from a small CLIP": Row(
        "train_clipreid.py",
        "small/vit_clipreid.yml",
        {
            "MODEL.NAME": "configs/demo/small_dual.json",
            "MODEL.PRETRAIN_CHOICE": "clip",
            "SOLVER.STAGE1.BASE_LR": 0.005,
            "SOLVER.STAGE2.OPTIMIZER_NAME": "AdamW",
            "SOLVER.STAGE2.BASE_LR": FINE_RATE,
            "SOLVER.STAGE2.WEIGHT_DECAY": 0.05,
            **_SMALL,
            "INPUT.SIZE_TRAIN": [96, 48],
            "INPUT.SIZE_TEST": [96, 48],
        },
        needs="MODEL.PRETRAIN_PATH",
    ),
}


def images_of(folder: Path | None, seed: int, out: Path, scale: Scale) -> Record:
    """The settings that name the images of a seed, which are drawn where there is no folder."""
    if folder is not None:
        name = "csv" if (folder / "dataset.csv").is_file() else "folder"
        return {"DATASETS.NAMES": name, "DATASETS.ROOT_DIR": folder}
    root = out / f"people{seed}"
    draw_market1501(root, train_ids=scale.train_ids, test_ids=scale.test_ids, seed=seed, overwrite=True)
    return {"DATASETS.NAMES": "market1501", "DATASETS.ROOT_DIR": root}


def colour_histogram(images: Mapping[str, Any]) -> Record:
    """Rank-1 and mAP of the ranking that learns nothing."""
    words = [str(word) for pair in images.items() for word in pair]
    program = [sys.executable, "tools/colour_histogram.py", *words]
    told = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = _RATES.search(told)
    if found is None:
        raise ValueError(f"tools/colour_histogram.py printed {told!r}; allowed: a line with Rank-1 and mAP")
    return {"rank1": float(found[1]) / 100, "mAP": float(found[2]) / 100}


def run_row(name: str, keys: Mapping[str, Any], out: Path) -> Record:
    """Rank-1 and mAP before and after the training of a row, and its minutes."""
    row = ROWS[name]
    settings = {**row.keys, "TEST.EVAL_BEFORE_TRAINING": True, **keys, "OUTPUT_DIR": out}
    run_program(row.program, ["--config_file", f"configs/{row.config}"], settings)
    epochs = read_epochs(out / "metrics.jsonl")
    seconds = sum((epoch.model_extra or {}).get("seconds", 0.0) for epoch in epochs)
    before = {"before": {"rank1": epochs[0].rank1, "mAP": epochs[0].mAP}}
    return {"rank1": epochs[-1].rank1, "mAP": epochs[-1].mAP, "minutes": seconds / 60, **before}


def table(records: Sequence[Record]) -> str:
    """A Markdown table: means over the seeds, with the least and the largest."""
    lines = ["| | Rank-1 before | mAP before | Rank-1 | mAP |", "|---|---|---|---|---|"]
    for row in dict.fromkeys(record["row"] for record in records):
        own = [record for record in records if record["row"] == row]
        cells = [row]
        for rates in ([record.get("before", {}) for record in own], own):
            for name in ("rank1", "mAP"):
                values = [100 * rate[name] for rate in rates if name in rate]
                mean = statistics.mean(values) if values else 0.0
                cells.append(f"{mean:.1f} ({min(values):.1f}–{max(values):.1f})" if values else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None, scale: Scale = FULL) -> None:
    """Print one JSON line for each row and seed, and the table at the end."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument("--rows", nargs="+", choices=[HISTOGRAM, *ROWS], metavar="NAME")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="own images (default: drawn people)")
    parser.add_argument("--weight", type=Path, metavar="FILE", help="re-id model (default: train one)")
    parser.add_argument(
        "--clip",
        type=Path,
        metavar="FILE",
        help="small CLIP of people of other seeds; without one, no such row",
    )
    parser.add_argument("--out", type=Path, default=Path("logs/small_bench"), metavar="FOLDER")
    parser.add_argument("settings", nargs="*", metavar="KEY VALUE", help="of all rows, behind the options")
    args = parser.parse_args(argv)
    out = args.out.resolve()
    rows = args.rows or [HISTOGRAM, *(name for name in ROWS if args.clip or "CLIP" not in name)]
    needed = {ROWS[name].needs for name in rows if name in ROWS}
    files = {"MODEL.PRETRAIN_PATH": args.clip and args.clip.resolve()}
    if "MODEL.REID_WEIGHT" in needed:
        files["MODEL.REID_WEIGHT"] = (args.weight or train_others(out, scale)).resolve()
    settings = dict(zip(args.settings[::2], args.settings[1::2], strict=True))
    records = []
    for seed in args.seeds:
        images = images_of(args.folder and args.folder.resolve(), seed, out, scale)
        for name in rows:
            keys = {**images, "SOLVER.SEED": seed, **settings}
            if name in ROWS and ROWS[name].needs:
                keys[ROWS[name].needs] = files[ROWS[name].needs]
            place = out / f"{'_'.join(name.split())}_{seed}"
            rates = colour_histogram(images) if name == HISTOGRAM else run_row(name, keys, place)
            records.append({"row": name, "seed": seed, **rates})
            print(json.dumps(records[-1]), flush=True)
    print(f"\n{table(records)}")


if __name__ == "__main__":
    main()
