"""A multilingual text tower on drawn people: trained in one language or in three, asked in each.

`make bench-languages`, or: python -m benchmarks.languages [--seeds N ...] [--rows NAME ...] [--out FOLDER]

Each training picture has three sentences. They are all English, all Chinese, all Russian, or one of each,
with the same facts in every case, and the model sees as many pairs in as many steps. It is a small AltCLIP of
random weights, so no language is known before. The last two rows go on from the model of three languages of
another seed, with English sentences about people whom that one never saw: as one trains a released
multilingual model.
"""

import argparse
import contextlib
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.languages.tower import write_altclip
from benchmarks.prompts.__main__ import Record
from config.arguments import Parser
from datasets.drawn import draw_captions
from train_tbps import main as train_by_text
from utils.untrusted.metrics_files import read_epochs

CONFIG = "configs/demo/tbps.yml"
LANGUAGES = {"": "English", "zh": "Chinese", "ru": "Russian"}
MIXED = "one of each"
CAMERAS, CAPTIONS = 4, len(LANGUAGES)


class Row(NamedTuple):
    """The languages of the training sentences, changed keys, and whether it goes on from `MIXED`."""

    languages: tuple[str, ...]
    keys: Mapping[str, Any] = {}
    goes_on: bool = False


ROWS = {
    "English": Row(("",)),
    "Chinese": Row(("zh",)),
    "Russian": Row(("ru",)),
    MIXED: Row(tuple(LANGUAGES)),
    f"{MIXED}, then English": Row(("",), goes_on=True),
    f"{MIXED}, then English, text tower frozen": Row(("",), {"MODEL.FREEZE_TEXT": True}, goes_on=True),
}


class Scale(NamedTuple):
    """People for training and for the test, and epochs of a model and of one that goes on."""

    train_ids: int = 600
    test_ids: int = 50
    epochs: int = 5
    more_epochs: int = 2


FULL = Scale()


class Bench:
    """Data sets, first weights and runs of some seeds in a folder; each is made once."""

    def __init__(self, out: Path, seeds: Sequence[int], scale: Scale) -> None:
        self.out, self.scale = out, scale
        following = [*seeds[1:], seeds[0] if len(seeds) > 1 else seeds[0] + 1]
        self.others = dict(zip(seeds, following, strict=True))
        self.started: dict[int, Path] = {}
        self.mixed: dict[int, Path] = {}

    def start(self, seed: int) -> Path:
        """The folder of a seed, with `drawn_captions`, `mixed` and `altclip` for it."""
        if seed not in self.started:
            self.started[seed] = folder = self.out / f"seed{seed}"
            draw_captions(
                folder,
                train_ids=self.scale.train_ids,
                test_ids=self.scale.test_ids,
                cameras=CAMERAS,
                captions=CAPTIONS,
                seed=seed,
                languages=[code for code in LANGUAGES if code],
                overwrite=True,
            )
            rows = mix(folder / "drawn_captions", folder / "mixed")
            texts = [row[_column(code)][0].lower() for row in rows[::CAMERAS] for code in LANGUAGES]
            write_altclip(folder / "altclip", texts, seed)
        return self.started[seed]

    def train(self, name: str, seed: int) -> Record:
        """Rates of a row in each language, before and after training, and the seconds of its epochs."""
        row, folder = ROWS[name], self.start(seed)
        if row.goes_on:
            weight, epochs = self.train_mixed(self.others[seed]), self.scale.more_epochs
        else:
            weight, epochs = folder / "altclip", self.scale.epochs
        run = folder / f"run{list(ROWS).index(name)}"
        several = len(row.languages) > 1
        keys = {
            "MODEL.NAME": "AltCLIP",
            "MODEL.PRETRAIN_CHOICE": "clip",
            "MODEL.PRETRAIN_PATH": weight,
            "MODEL.TEXT_LENGTH": 64,
            "DATASETS.ROOT_DIR": folder / ("mixed" if several else "drawn_captions"),
            "DATASETS.IMAGE_DIR": folder / "drawn_captions/imgs",
            "DATASETS.LANGUAGES": list(row.languages),
            "TEST.LANGUAGES": list(LANGUAGES),
            "SOLVER.MAX_EPOCHS": epochs,
            "SOLVER.CHECKPOINT_PERIOD": epochs,
            "SOLVER.EVAL_PERIOD": epochs,
            "SOLVER.SEED": seed,
            "OUTPUT_DIR": run,
            **row.keys,
        }
        (run / "metrics.jsonl").unlink(missing_ok=True)  # a run appends
        words = [str(word) for pair in keys.items() for word in pair]
        with contextlib.redirect_stdout(sys.stderr):
            train_by_text(argv=["--config_file", CONFIG, *words])
        if name == MIXED:
            self.mixed[seed] = run / f"AltCLIP_{epochs}.pth"
        lines = [epoch.model_dump() for epoch in read_epochs(run / "metrics.jsonl")]
        seconds = sum(line.get("seconds", 0) for line in lines)
        before, *_, after = map(_rates, (line for line in lines if "caption_rank1" in line))
        return {"row": name, "seed": seed, "before": before, "rates": after, "seconds": round(seconds)}

    def train_mixed(self, seed: int) -> Path:
        """Weights of the row `MIXED` of a seed."""
        if seed not in self.mixed:
            self.train(MIXED, seed)
        return self.mixed[seed]


def mix(folder: Path, out: Path) -> list[Record]:
    """Write the lists of a drawn data set with one language for each caption; the training rows as drawn.

    Caption n of a training picture stays in the n-th language only, so there are as many pairs as in one
    language. The test keeps all.
    """
    out.mkdir(exist_ok=True)
    rows = json.loads((folder / "train_reid.json").read_text(encoding="utf-8"))
    mixed = []
    for row in rows:
        own = {"file_path": row["file_path"], "id": row["id"]}
        for place, code in enumerate(LANGUAGES):
            for kind in ("captions", "captions_bt"):
                own[_column(code, kind)] = row[_column(code, kind)][place : place + 1]
        mixed.append(own)
    (out / "train_reid.json").write_text(json.dumps(mixed), encoding="utf-8")
    (out / "test_reid.json").write_bytes((folder / "test_reid.json").read_bytes())
    return rows


def chance(images: int, matches: int) -> tuple[float, float]:
    """Rank-1 and mAP that are expected of a random order of images, so many of which match."""
    harmonic = math.fsum(1 / place for place in range(1, images + 1))
    other = (matches - 1) / (images - 1) * (images - harmonic)
    return matches / images, (harmonic + other) / images


def table(records: Sequence[Record], scale: Scale) -> str:
    """A Markdown table: means over the seeds with the least and the largest, in percent."""
    lines = [
        f"| trained on | {' | '.join(f'Rank-1, {name} | mAP' for name in LANGUAGES.values())} |",
        f"|---{'|---|---' * len(LANGUAGES)}|",
    ]
    rank1, mean = chance(scale.test_ids * CAMERAS, CAMERAS)
    lines.append(f"| chance {f'| {100 * rank1:.1f} | {100 * mean:.1f} ' * len(LANGUAGES)}|")
    for name in dict.fromkeys(record["row"] for record in records):
        own = [record for record in records if record["row"] == name]
        if ROWS[name].goes_on and not any(ROWS[name].keys):
            lines.append(_line(f"{MIXED}, of other people", [record["before"] for record in own]))
        lines.append(_line(name, [record["rates"] for record in own]))
    return "\n".join(lines)


def _line(name: str, rates: Sequence[Mapping[str, Sequence[float]]]) -> str:
    cells = [name]
    for language in LANGUAGES.values():
        for values in zip(*(rate[language] for rate in rates), strict=True):
            shown = [100 * value for value in values]
            cells.append(f"{statistics.mean(shown):.1f} ({min(shown):.1f}–{max(shown):.1f})")
    return f"| {' | '.join(cells)} |"


def _rates(epoch: Record) -> dict[str, tuple[float, float]]:
    """Rank-1 and mAP by language."""
    columns = {name: _column(code, "caption") for code, name in LANGUAGES.items()}
    return {name: (epoch[f"{column}_rank1"], epoch[f"{column}_mAP"]) for name, column in columns.items()}


def _column(code: str, kind: str = "captions") -> str:
    return f"{kind}_{code}" if code else kind


def main(argv: Sequence[str] | None = None, scale: Scale = FULL) -> None:
    """Print one JSON line for each row and seed, and the table at the end."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("logs/languages_bench"), metavar="FOLDER")
    args = parser.parse_args(argv)
    bench = Bench(args.out.resolve(), args.seeds, scale)
    records = []
    for name in args.rows:  # row by row, so that the models to go on from are there
        for record in map(partial(bench.train, name), args.seeds):
            records.append(record)
            print(json.dumps(record), flush=True)
    print(f"\n{table(records, scale)}")


if __name__ == "__main__":
    main()
