"""Training on few drawn people from random weights and from a model of other drawn people.

`make bench-finetune`, or: python -m benchmarks.finetune [--seeds N ...] [--domains NAME ...] [--out FOLDER]

The second start is MODEL.REID_WEIGHT. The model of other people learns with the settings of
configs/small/scratch_base.yml and batches twice as large. Both runs of a pair have the settings of that file,
the same images and seed, and are evaluated after every epoch of 20 steps on people whom neither model has
seen; the second one has a tenth of the rate and a sixth of the epochs.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.prompts.__main__ import Record, run_program
from config.arguments import Parser
from datasets.drawn import draw_market1501
from utils.untrusted.metrics_files import read_epochs

CONFIG = "configs/small/scratch_base.yml"
OF_OTHERS = 201  # seed of the people of the model that training goes on from
FINE_RATE = 0.0001  # higher ones undo more than 20 people teach
RANDOM, FROM_FILE = "random weights", "model of other people"
DOMAINS = ("street", "station")


class Scale(NamedTuple):
    """People and epochs of the model of others, and of the runs that are compared."""

    others: int = 160
    others_tested: int = 20
    others_epochs: int = 60
    train_ids: int = 20
    test_ids: int = 40
    epochs: int = 60
    fine_epochs: int = 10
    iters: int = 20

    def keys(self, epochs: int) -> Record:
        """Epochs of a run, with its steps at the shares of the file."""
        steps = sorted({max(1, round(epochs * share)) for share in (0.7, 0.9)})
        return {
            "SOLVER.ITERS": self.iters,
            "SOLVER.MAX_EPOCHS": epochs,
            "SOLVER.CHECKPOINT_PERIOD": epochs,
            "SOLVER.STEPS": steps,
        }


FULL = Scale()


def train_others(out: Path, scale: Scale) -> Path:
    """The model of other people, all of the domain 'street'."""
    folder = draw_market1501(
        out / "others", train_ids=scale.others, test_ids=scale.others_tested, seed=OF_OTHERS, overwrite=True
    )
    keys = scale.keys(scale.others_epochs) | {
        "DATASETS.ROOT_DIR": folder.parent,
        "SOLVER.IMS_PER_BATCH": 64,
        "SOLVER.EVAL_PERIOD": scale.others_epochs,
        "OUTPUT_DIR": out / "others_run",
    }
    run_program("train.py", ["--config_file", CONFIG], keys)
    return out / f"others_run/small_clip_{scale.others_epochs}.pth"


def run_pair(domain: str, seed: int, weight: Path, out: Path, scale: Scale) -> list[Record]:
    """A record of each start, with the rates after every epoch, epoch 0 first."""
    root = out / f"{domain}{seed}"
    draw_market1501(
        root, train_ids=scale.train_ids, test_ids=scale.test_ids, seed=seed, domain=domain, overwrite=True
    )
    records: list[Record] = []
    for start, path, epochs in ((RANDOM, None, scale.epochs), (FROM_FILE, weight, scale.fine_epochs)):
        run = out / f"{domain}{seed}_{'file' if path else 'random'}"
        keys: dict[str, Any] = scale.keys(epochs) | {
            "DATASETS.ROOT_DIR": root,
            "SOLVER.SEED": seed,
            "SOLVER.EVAL_PERIOD": 1,
            "OUTPUT_DIR": run,
        }
        keys |= {"MODEL.REID_WEIGHT": path, "SOLVER.BASE_LR": FINE_RATE} if path else {}
        run_program("train.py", ["--config_file", CONFIG], keys)
        lines = read_epochs(run / "metrics.jsonl")
        rates = {name: [getattr(line, name) for line in lines] for name in ("mAP", "rank1")}
        records.append({"domain": domain, "seed": seed, "start": start, **rates})
    return records


def epochs_to(rates: Sequence[float], wanted: float) -> int | None:
    """The first epoch with that rate or a higher one; `rates` begin with epoch 0."""
    return next((epoch for epoch, rate in enumerate(rates) if rate >= wanted), None)


def table(records: Sequence[Record]) -> str:
    """A Markdown table: means over the seeds, with the least and the largest.

    The wanted mAP is that of the last epoch from random weights, for the same people.
    """
    lines = [
        "| new people | start | mAP before | Rank-1 before | mAP after | Rank-1 after "
        "| epochs to the mAP that random weights end with |",
        "|---|---|---|---|---|---|---|",
    ]
    goal = {(each["domain"], each["seed"]): each["mAP"][-1] for each in records if each["start"] == RANDOM}
    for domain, start in dict.fromkeys((each["domain"], each["start"]) for each in records):
        own = [each for each in records if (each["domain"], each["start"]) == (domain, start)]
        cells = [domain, start]
        for place in (0, -1):
            for rate in ("mAP", "rank1"):
                values = [100 * each[rate][place] for each in own]
                cells.append(f"{statistics.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})")
        found = [epochs_to(each["mAP"], goal[domain, each["seed"]]) for each in own]
        cells.append(", ".join("never" if epoch is None else str(epoch) for epoch in found))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None, scale: Scale = FULL) -> None:
    """Print one JSON line for each run, and the table at the end."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=list(DOMAINS), metavar="NAME")
    parser.add_argument("--weight", type=Path, metavar="FILE", help="of an earlier run (default: train one)")
    parser.add_argument("--out", type=Path, default=Path("logs/finetune_bench"), metavar="FOLDER")
    args = parser.parse_args(argv)
    out = args.out.resolve()
    weight = (args.weight or train_others(out, scale)).resolve()
    records = []
    for domain in args.domains:
        for seed in args.seeds:
            for record in run_pair(domain, seed, weight, out, scale):
                records.append(record)
                print(json.dumps(record), flush=True)
    print(f"\n{table(records)}")


if __name__ == "__main__":
    main()
