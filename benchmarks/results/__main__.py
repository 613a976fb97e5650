"""The tables of docs/results.md that are made from receipts of runs.

python -m benchmarks.results                           write the tables from the receipts that are kept
python -m benchmarks.results --keep people=logs/demo/run   keep the receipt in a folder under a name first

A table stands between `<!-- receipts: NAME -->` and `<!-- end -->`; `TABLES` names its rows.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import ROOT
from config.arguments import Parser, end_in_one_line, say
from utils.files import write_atomically
from utils.untrusted.receipts import FILE, Part, Section, read_receipt

PAGE = ROOT / "docs/results.md"
RECEIPTS = Path(__file__).parent / "receipts"
_BLOCK = re.compile(r"(<!-- receipts: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_METRICS = {"rank1": "Rank-1", "mAP": "mAP", "mINP": "mINP"}


class Row(NamedTuple):
    """A row of a table: its text, and which part of which receipt its numbers are of."""

    text: str
    receipt: str
    part: Part = "train"


TABLES: Mapping[str, tuple[Row, ...]] = {
    "people": (Row("CLIP-ReID, after 40 epochs of stage 2", "people", "test"),),
    "vehicles": (Row("CLIP-ReID, after 40 epochs of stage 2", "vehicles", "test"),),
}


def page(text: str, receipts: Path = RECEIPTS) -> str:
    """The page with its tables made from the receipts; raises ValueError for one that is not in `TABLES`."""

    def block(found: re.Match[str]) -> str:
        if found[2] != "runs" and found[2] not in TABLES:
            raise ValueError(f"table {found[2]!r} is unknown; allowed: runs, {', '.join(TABLES)}")
        lines = _runs(receipts) if found[2] == "runs" else _metrics(TABLES[found[2]], receipts)
        return found[1] + "\n".join(lines) + "\n" + found[3]

    return _BLOCK.sub(block, text)


def _metrics(rows: Sequence[Row], receipts: Path) -> list[str]:
    """In percent, with 95 % intervals over the queries."""
    lines = [f"| in % [95 % interval] | {' | '.join(_METRICS.values())} | queries |"]
    lines.append("|---|" + "---|" * (len(_METRICS) + 1))
    for row in rows:
        section = _section(receipts, row)
        cells = [_percent(section, name) for name in _METRICS]
        lines.append(f"| {row.text} | {' | '.join(cells)} | {section.metrics['num_valid']:,.0f} |")
    return lines


def _percent(section: Section, name: str) -> str:
    low, high = section.intervals[name]
    return f"{100 * section.metrics[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _section(receipts: Path, row: Row) -> Section:
    section = getattr(read_receipt(receipts / f"{row.receipt}.json"), row.part)
    if section is None:
        raise ValueError(f"{receipts / row.receipt}.json has no section {row.part!r}; allowed: one with it")
    return section


def _runs(receipts: Path) -> list[str]:
    """The trainings behind the tables."""
    lines = ["| receipt | method | training images | seed | precision | minutes | peak MB | torch | commit |"]
    lines.append("|---" * 9 + "|")
    for path in sorted(receipts.glob("*.json")):
        train = read_receipt(path).train
        if train is None or train.data is None:
            continue
        split = train.data.splits["train"]
        cells = [
            f"`{path.stem}`",
            train.method,
            f"{split.images:,} of {split.identities:,} identities",
            str(train.seed),
            train.precision,
            f"{(train.seconds or 0) / 60:.1f}",
            "–" if train.peak_memory is None else f"{train.peak_memory / 1e6:,.0f}",
            train.versions.get("torch", "–"),
            train.commit[:7],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def keep(name: str, folder: Path, receipts: Path = RECEIPTS) -> Path:
    """Copy the receipt of a run, with paths below the working directory made relative to it.

    Raises FileNotFoundError without one, ValueError for a run that has not finished.
    """
    found = read_receipt(folder / FILE)
    for part in (found.train, found.test):
        if part is not None and part.status != "finished":
            raise ValueError(f"{folder / FILE} is of a run that is {part.status}; allowed: a finished one")
    text = json.dumps(found.model_dump(), indent=1).replace(f"{Path.cwd()}/", "") + "\n"
    path = receipts / f"{name}.json"
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--keep",
        nargs="+",
        default=[],
        metavar="NAME=FOLDER",
        help="keep the receipts in these folders first, under these names",
    )
    args = parser.parse_args(argv)
    with end_in_one_line():
        for word in args.keep:
            name, _, folder = word.partition("=")
            if not (name and folder):
                raise ValueError(f"--keep is {word!r}; allowed: NAME=FOLDER")
            say("%s", keep(name, Path(folder)))
        text = page(PAGE.read_text(encoding="utf-8"))
        write_atomically(PAGE, lambda path: path.write_text(text, encoding="utf-8"))
        say("%s is written", PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
