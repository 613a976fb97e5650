"""Compare runs: metrics with intervals, differences on the same queries, and the settings that differ.

python tools/compare.py logs/market/vit logs/market/cnn
python tools/compare.py 'paper=logs/vit' 'with SIE=logs/vit_sie' --out comparison.html

Each argument is the OUTPUT_DIR of a training run, of a test, or of both; differences are to the first one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line
from tools.comparing.sheet import Table, add_out_option, publish, require_out

if TYPE_CHECKING:
    from retrieval import Difference, Interval
    from tools.comparing.runs import Run

NAMING = ("OUTPUT_DIR",)  # differs between any two runs
_SHOWN = 60  # characters of a setting's value


def compared(runs: Sequence[Run], *, rounds: int, seed: int) -> list[Table]:
    """The tables: metrics of the runs, differences to the first of them, settings."""
    tables = [Table("Metrics in %, with 95 % intervals over queries", _metric_rows(runs))]
    if len(runs) > 1:
        tables += [_difference(runs, rounds, seed), _settings(runs)]
        for part in ("training", "test"):
            found = {run.label: getattr(run, part) for run in runs}
            if any(found.values()):
                words = (f"fact of the {part}", f"Receipts of the {part}", f"facts of the {part} differ")
                tables.append(_differences(words, found, f"No receipt of a {part}"))
    return tables


def _metric_rows(runs: Sequence[Run]) -> list[list[str]]:
    from tools.comparing.runs import METRICS

    rows = [["run", *METRICS.values(), "from"]]
    for run in runs:
        if run.result is None:
            rows.append([run.label, *("–" for _ in METRICS), "no test, no evaluation"])
            continue
        cells = [_value(run.result.metrics.get(name), run.result.intervals.get(name)) for name in METRICS]
        rows.append([run.label, *cells, run.result.source])
    return rows


def _value(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "–"
    ends = "" if interval is None else f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return f"{100 * value:.1f}{ends}"


def _difference(runs: Sequence[Run], rounds: int, seed: int) -> Table:
    from tools.comparing.runs import METRICS, difference, doubts

    rows = [["run", *METRICS.values(), "queries"]]
    notes = [
        "* the 95 % interval of the difference, by paired bootstrap over queries, does not hold 0. "
        "How much a second seed of training would change is not in it."
    ]
    for run in runs[1:]:
        found = difference(runs[0], run, rounds=rounds, seed=seed)
        if isinstance(found, str):
            rows.append([run.label, *("–" for _ in METRICS), f"not compared: {found}"])
            continue
        count = sum(len(names) for names in run.result.queries) if run.result else 0
        rows.append([run.label, *(_change(found[name]) for name in METRICS), f"{count:,}"])
        notes += doubts(runs[0], run)
    title = f"Difference to {runs[0].label} on the same queries, in percentage points"
    return Table(title, rows, " ".join(notes))


def _change(found: Difference) -> str:
    low, high = (100 * end for end in found.interval)
    star = " *" if low > 0 or high < 0 else ""
    return f"{100 * found.value:+.1f} [{low:+.1f}, {high:+.1f}]{star}"


def _settings(runs: Sequence[Run]) -> Table:
    """Of keys that not all runs have, such as those of other methods, only those that differ elsewhere."""
    found = {run.label: {key: run.settings[key] for key in run.settings if key not in NAMING} for run in runs}
    known = [values for values in found.values() if values]
    keys = list(dict.fromkeys(key for values in known for key in values))
    partly = [
        key
        for key in keys
        if any(key not in values for values in known)
        and len({_shown(values, key) for values in known if key in values}) == 1
    ]
    own = {label: {k: v for k, v in values.items() if k not in partly} for label, values in found.items()}
    words = ("key", "Settings", f"settings differ ({', '.join(NAMING)} aside; – is a key of others)")
    table = _differences(words, own, "No config.yml and no receipt.json")
    notes = [table.note] if table.note else []
    if partly and table.rows:
        groups = dict.fromkeys(key.partition(".")[0] for key in partly)
        notes.append(f"Not listed: {len(partly)} keys that not all runs have, in {', '.join(groups)}.")
    for run in runs:
        if run.settings and run.trained_in is None:
            notes.append(f"{run.label} is a test; no training was found next to its weights.")
        elif run.trained_in and run.trained_in.resolve() != run.folder.resolve():
            notes.append(f"{run.label} was trained in {run.trained_in}.")
    return table._replace(note=" ".join(notes))


def _differences(names: tuple[str, str, str], runs: Mapping[str, Mapping[str, Any]], lacking: str) -> Table:
    """What differs between the runs that have values, by their labels; the note has those `lacking` any."""
    head, subject, title = names
    known = {label: values for label, values in runs.items() if values}
    without = ", ".join(label for label in runs if label not in known)
    note = f"{lacking}: {without}." if without else ""
    if len(known) < 2:
        return Table(f"{subject} are not compared: fewer than two runs have any.", note=note)
    keys = list(dict.fromkeys(key for values in known.values() for key in values))
    differ = [key for key in keys if len({_shown(values, key) for values in known.values()}) > 1]
    rows = [[head, *known], *([key, *(_shown(values, key) for values in known.values())] for key in differ)]
    return Table(f"{len(differ)} of {len(keys)} {title}", rows if differ else (), note)


def _shown(values: Mapping[str, Any], name: str) -> str:
    from utils.text import shortened

    if name not in values:
        return "–"
    return shortened(repr(values[name]) if values[name] == "" else values[name], _SHOWN)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[LABEL=]FOLDER",
        help="OUTPUT_DIR of a run; LABEL, else the folder's name, stands in the tables",
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="rounds behind the intervals, in which queries are drawn again; 0 = none (default: 1000)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="equal seeds give equal intervals (default: 0)"
    )
    add_out_option(parser)
    args = parser.parse_args(argv)
    with end_in_one_line():
        from retrieval import check_rounds
        from tools.comparing.runs import CONFIG, read_run
        from tools.plots import parse_sources
        from utils.logger import setup_logger

        setup_logger(None, "")
        check_rounds(args.bootstrap, args.seed)
        require_out(args.out)
        sources = {
            label: path.parent if path.name == CONFIG else path
            for label, path in parse_sources(args.runs, CONFIG).items()
        }
        runs = [
            read_run(label, folder, rounds=args.bootstrap, seed=args.seed)
            for label, folder in sources.items()
        ]
        tables = compared(runs, rounds=args.bootstrap, seed=args.seed)
        publish(f"Comparison of {', '.join(sources)}", tables, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
