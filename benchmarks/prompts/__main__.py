"""Methods of prompt learning from one small CLIP, on drawn people of its domain and of another one.

`make bench-prompts`, or: python -m benchmarks.prompts [--seeds N ...] [--methods NAME ...] [--out FOLDER]

CLIP is a text search model of drawn people and sentences. Each method then learns from other people of the
same domain, `street`, and finds people that it never saw, there and in the domain `station`. The settings are
those of the last version's files, with rates and epochs for so small a tower, the same for all methods, and
patches that do not overlap. The row `CLIP` has CLIP's image tower as it is.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import ROOT
from config.arguments import Parser
from datasets.drawn import draw_captions, draw_market1501
from utils.untrusted.metrics_files import read_epochs

METHODS = {
    "CLIP-ReID": "person/vit_clipreid.yml",
    "CoOp": "prompts/coop_main.yml",
    "VPT": "prompts/vpt_main.yml",
    "IVLP": "prompts/ivlp_main.yml",
    "PromptSRC": "prompts/promptsrc_main.yml",
}
UNTRAINED = "CLIP"
OF_CLIP = 101  # seed of the people and sentences that CLIP learns from
TOWER = {
    "MODEL.NAME": "configs/demo/small_clip.json",
    "INPUT.SIZE_TRAIN": [128, 64],
    "INPUT.SIZE_TEST": [128, 64],
}
KEYS = {
    "MODEL.PRETRAIN_CHOICE": "clip",
    "MODEL.STRIDE_SIZE": [16, 16],
    "INPUT.PADDING": 8,
    "DATASETS.NAMES": "market1501",
    "SOLVER.STAGE1.BASE_LR": 0.005,
    "SOLVER.STAGE1.WARMUP_EPOCHS": 2,
    "SOLVER.STAGE2.OPTIMIZER_NAME": "AdamW",
    "SOLVER.STAGE2.BASE_LR": 0.001,
    "SOLVER.STAGE2.WARMUP_ITERS": 2,
    "SOLVER.STAGE2.STEPS": [14, 18],
    "TEST.AUGMENT": "none",
}
_LEARNS = re.compile(r"^(?P<part>\S.*?) {2,}(?P<learns>[\d,]+) +(?P<frozen>[\d,]+)$")

Record = dict[str, Any]


class Scale(NamedTuple):
    """People that CLIP, the methods and their tests have, and epochs of CLIP and of both stages."""

    of_clip: int = 900
    train_ids: int = 80
    test_ids: int = 40
    epochs: tuple[int, int, int] = (14, 20, 20)

    def keys(self) -> Record:
        """Epochs of both stages."""
        kinds = ("MAX_EPOCHS", "CHECKPOINT_PERIOD", "EVAL_PERIOD")
        _, first, second = self.epochs
        stages = (("STAGE1", first, kinds[:2]), ("STAGE2", second, kinds))
        return {f"SOLVER.{stage}.{kind}": epochs for stage, epochs, kinds in stages for kind in kinds}

    def teacher_keys(self) -> Record:
        """The CLIP that training starts from as the teacher; means of epochs as published."""
        _, first, second = self.epochs
        return {
            "MODEL.TEACHER.PRETRAIN_TAG": "",
            "SOLVER.STAGE1.GAUSS_MEAN": first / 2,
            "SOLVER.STAGE1.GAUSS_STD": first * 3 / 8,
            "SOLVER.STAGE2.GAUSS_MEAN": second / 2,
            "SOLVER.STAGE2.GAUSS_STD": second / 2,
        }


FULL = Scale()


def run_program(program: str, options: Sequence[str], keys: Mapping[str, Any]) -> None:
    """Run a program of the project, whose lines go to stderr. Raises CalledProcessError."""
    words = [str(word) for pair in keys.items() for word in pair]
    subprocess.run([sys.executable, program, *options, *words], cwd=ROOT, stdout=sys.stderr, check=True)


def train_clip(out: Path, scale: Scale) -> Path:
    """The text search model whose towers all methods start from."""
    draw_captions(out / "words", train_ids=scale.of_clip, seed=OF_CLIP, overwrite=True)
    epochs = scale.epochs[0]
    keys = TOWER | {
        "MODEL.TEXT_LENGTH": 77,
        "DATASETS.ROOT_DIR": out / "words/drawn_captions",
        "SOLVER.MAX_EPOCHS": epochs,
        "SOLVER.CHECKPOINT_PERIOD": epochs,
        "OUTPUT_DIR": out / "clip",
    }
    run_program("train_tbps.py", ["--config_file", "configs/demo/tbps.yml"], keys)
    return out / f"clip/small_clip_{epochs}.pth"


def run_seed(seed: int, methods: Sequence[str], clip: Path, out: Path, scale: Scale) -> list[Record]:
    """A record of each method, and of CLIP itself, on people and with random numbers of this seed."""
    street, station = out / f"street{seed}", out / f"station{seed}"
    draw = partial(draw_market1501, test_ids=scale.test_ids, seed=seed, overwrite=True)
    draw(street, train_ids=scale.train_ids)
    draw(station, train_ids=1, domain="station")
    weights, costs = {}, {}
    for method in methods:
        run = out / f"{method}_{seed}"
        keys = TOWER | KEYS | scale.keys() | (scale.teacher_keys() if method == "PromptSRC" else {})
        keys |= {
            "MODEL.PRETRAIN_PATH": clip,
            "DATASETS.ROOT_DIR": street,
            "SOLVER.SEED": seed,
            "OUTPUT_DIR": run,
        }
        run_program("train_clipreid.py", ["--config_file", f"configs/{METHODS[method]}"], keys)
        weights[method], costs[method] = run / f"small_clip_{scale.epochs[2]}.pth", read_costs(run)
        if method == "CLIP-ReID":
            weights[UNTRAINED] = run / f"small_clip_stage1_{scale.epochs[1]}.pth"
    rates = test_all(weights, [street, station], out / f"rates{seed}")
    return [
        {"method": method, "seed": seed, "rates": rates[method], **costs.get(method, {})}
        for method in weights
    ]


def read_costs(run: Path) -> Record:
    """By stage, the numbers that learn and the median of the seconds of an epoch."""
    learns: dict[str, int] = {}
    stage = ""
    for line in (run / "train_log.txt").read_text(encoding="utf-8").splitlines():
        if found := re.search(r"(stage\d) trains +learns", line):
            stage = found[1]
            learns[stage] = 0
        elif stage and (found := _LEARNS.match(line)):
            learns[stage] += int(found["learns"].replace(",", ""))
    seconds: dict[str, list[float]] = {}
    for epoch in read_epochs(run / "metrics.jsonl"):
        if epoch.epoch:
            seconds.setdefault(epoch.stage, []).append((epoch.model_extra or {})["seconds"])
    return {
        "learns": learns,
        "seconds": {stage: statistics.median(values) for stage, values in seconds.items()},
    }


def test_all(weights: Mapping[str, Path], roots: Sequence[Path], out: Path) -> dict[str, list[Record]]:
    """Rank-1 and mAP of each file of weights in each domain."""
    options = [f"--weight={label}={path}" for label, path in weights.items()]
    options += [f"--data=market1501={root}" for root in roots]
    options += ["--bootstrap", "0"]
    run_program("tools/cross_domain.py", options, TOWER | {"OUTPUT_DIR": out})
    found = json.loads((out / "cross_domain.json").read_text(encoding="utf-8"))
    return {
        label: [{name: row[name] for name in ("rank1", "mAP")} for row in found if row["weight"] == label]
        for label in weights
    }


def table(records: Sequence[Record]) -> str:
    """A Markdown table: means over the seeds, with the least and the largest of rates."""
    lines = [
        "| | learns in stage 1 | in stage 2 | s an epoch of stage 1 | of stage 2 | Rank-1, street | mAP "
        "| Rank-1, station | mAP |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(record["method"] for record in records):
        own = [record for record in records if record["method"] == method]
        cells = [method]
        for quantity, shown in (("learns", "{:,.0f}"), ("seconds", "{:.1f}")):
            for stage in ("stage1", "stage2"):
                values = [record[quantity][stage] for record in own if quantity in record]
                cells.append(shown.format(statistics.mean(values)) if values else "–")
        for place in range(2):
            for rate in ("rank1", "mAP"):
                values = [100 * record["rates"][place][rate] for record in own]
                cells.append(f"{statistics.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None, scale: Scale = FULL) -> None:
    """Print one JSON line for each method and seed, and the table at the end."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--clip", type=Path, metavar="FILE", help="of an earlier run (default: train one)")
    parser.add_argument("--out", type=Path, default=Path("logs/prompts_bench"), metavar="FOLDER")
    args = parser.parse_args(argv)
    out = args.out.resolve()
    clip = (args.clip or train_clip(out, scale)).resolve()
    records = []
    for seed in args.seeds:
        for record in run_seed(seed, args.methods, clip, out, scale):
            records.append(record)
            print(json.dumps(record), flush=True)
    print(f"\n{table(records)}")


if __name__ == "__main__":
    main()
