"""Pictures of runs: CMC curves of tests, and the course of training.

python tools/plots.py cmc --out cmc.png logs/market/vit 'with re-ranking=logs/market/vit_rerank'
python tools/plots.py training --out training.svg logs/market/vit logs/market/cnn
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say
from tools.ranking.style import COLOURS, DASHES, STYLE
from utils.files import require_writable, write_atomically
from utils.package import require_extra
from utils.text import shortened
from utils.untrusted.forms import read_json
from utils.untrusted.metrics_files import MAX_METRICS, TestMetrics, read_epochs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
COLUMNS = 3  # of panels
MAX_PANELS, MAX_STAGES = 60, 20
MARKED = 15  # a line of more epochs has no dots
TITLES = {
    "loss": "Loss, sum of all terms",
    "lr": "Learning rate",
    "acc": "Accuracy in training batches",
    "clusters": "Clusters of training images",
    "outliers": "Training images in no cluster",
    "nmi": "Clusters and identities, NMI",
    "ari": "Clusters and identities, ARI",
    "mAP": "mAP of the test images",
    "rank1": "Rank-1 of the test images",
}
FRACTIONS = ("acc", "mAP", "rank1")

Record = dict[str, str | float]


class Scores(NamedTuple):
    """What `metrics.json` says: fractions, `cmc[k - 1]` is Rank-k."""

    cmc: list[float]
    mAP: float
    dataset: str
    reranked: bool


def parse_sources(words: Sequence[str], file_name: str) -> dict[str, Path]:
    """Files by label of words [LABEL=]FILE; FILE may be the folder that has `file_name` in it.

    Raises ValueError when two have one label.
    """
    sources: dict[str, Path] = {}
    for word in words:
        label, equals, place = word.partition("=")
        if not equals or Path(word).exists():  # a path may have a = of its own
            label, place = "", word
        path = Path(place)
        if path.is_dir():
            path = path / file_name
        label = label or Path(os.path.realpath(path)).parent.name  # what the run's folder is called
        if label in sources:
            raise ValueError(f"{word}: a second {label!r}; write another name before it, as in NAME={place}")
        sources[label] = path
    return sources


def read_scores(path: Path) -> Scores:
    """Read `metrics.json`; raises OSError, or ValueError that names the file."""
    found = read_json(path, TestMetrics, MAX_METRICS)
    return Scores(found.cmc, found.mAP, found.dataset or "", bool(found.rerank))


def read_last_run(path: Path) -> list[Record]:
    """Read the records of the last run in `metrics.jsonl`; raises OSError, or ValueError with file and line.

    A run begins with 'untrained', or with epoch 1 of a stage that does not follow it, or as stage 2 stage 1.
    """
    run: list[Record] = []
    for epoch in read_epochs(path):
        before = run[-1]["stage"] if run else ""
        follows = before == "untrained" or (epoch.stage == "stage2" and before == "stage1")
        if epoch.stage == "untrained" or (epoch.epoch == 1 and not follows):
            run = []
        run.append(epoch.model_dump(exclude_unset=True))
    if not any("loss" in record for record in run):
        raise ValueError(f"{path}: no epoch of training in its last run; allowed: one or more")
    stages = len({record["stage"] for record in run})
    if stages > MAX_STAGES:
        raise ValueError(f"{path}: {stages} stages in its last run; allowed: up to {MAX_STAGES}")
    return run


def draw_cmc(tests: Mapping[str, Scores]) -> Figure:
    """Draw CMC curves by label; the legend tells Rank-1 and mAP, dots mark Rank-1, 5 and 10."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for index, (label, test) in enumerate(tests.items()):
        note = ", re-ranked" if test.reranked else ""
        axes.plot(
            range(1, len(test.cmc) + 1),
            test.cmc,
            **_look(index),
            marker="o",
            markevery=[rank - 1 for rank in (1, 5, 10) if rank <= len(test.cmc)],
            label=f"{_shown(label)}{note}: Rank-1 {test.cmc[0]:.1%}, mAP {test.mAP:.1%}",
        )
    longest = max(len(test.cmc) for test in tests.values())
    axes.set_xticks([1, *_whole_ticks(2, longest, at_most=8)])
    axes.set(xlabel="Rank", ylabel="Queries with a match up to this rank")
    _set_percent(axes)
    datasets = {test.dataset for test in tests.values()} - {""}
    axes.set_title(", ".join(["CMC", *map(_shown, sorted(datasets))]))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left")
    return figure


def draw_training(runs: Mapping[str, Sequence[Record]]) -> Figure:
    """Draw the course of runs by label: a panel for each quantity, in it the stages that have it."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    records = [record for run in runs.values() for record in run if record["stage"] != "untrained"]
    found = dict.fromkeys(key for record in records for key in record)
    terms = [key for key in found if key.startswith("loss_")]
    keys = [key for key in ("loss", *terms, *list(TITLES)[1:]) if key in found]
    if len(keys) > MAX_PANELS:
        say("%d of %d quantities are drawn, the first ones", MAX_PANELS, len(keys))
        keys = keys[:MAX_PANELS]
    rows = math.ceil(len(keys) / COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 2.5 * rows), layout="constrained")
    for place, key in enumerate(keys, start=1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        _draw_panel(axes, key, {label: series(run, key) for label, run in runs.items()})
    handles = [Line2D([], [], **_look(index)) for index in range(len(runs))]
    figure.legend(handles, list(map(_shown, runs)), loc="outside lower left", ncols=COLUMNS)
    return figure


def series(run: Sequence[Record], key: str) -> dict[str, list[tuple[float, float]]]:
    """Pairs of epoch and value of one quantity, by stage; 'untrained' is epoch 0 of the first stage."""
    points: dict[str, list[tuple[float, float]]] = {}
    for record in run:
        if key in record:
            points.setdefault(record["stage"], []).append((record["epoch"], record[key]))
    before = points.pop("untrained", [])
    if points:
        first = next(iter(points))
        points[first] = before + points[first]
    return points


def _draw_panel(axes: Axes, key: str, runs: Mapping[str, dict[str, list[tuple[float, float]]]]) -> None:
    lengths: dict[str, float] = {}  # epochs by stage, of the longest run
    for points in runs.values():
        for stage, pairs in points.items():
            lengths[stage] = max(lengths.get(stage, 0), pairs[-1][0])
    starts = dict(zip(lengths, accumulate(lengths.values(), initial=0), strict=False))
    for index, (label, points) in enumerate(runs.items()):
        for stage, pairs in points.items():
            axes.plot(
                [starts[stage] + epoch for epoch, _ in pairs],
                [value for _, value in pairs],
                **_look(index),
                marker="o" if len(pairs) <= MARKED else "",
                label=label,
            )
    ticks: dict[float, str] = {}  # epochs are counted anew in each stage
    for stage, length in lengths.items():
        if starts[stage]:
            axes.axvline(starts[stage], color="#808080", linewidth=0.8)
        middle, above = starts[stage] + (1 + length) / 2, axes.get_xaxis_transform()
        axes.text(middle, 1.02, _shown(stage), transform=above, ha="center", size="small", color="#606060")
        share = length / sum(lengths.values())
        for tick in _whole_ticks(1, length, at_most=max(1, round(6 * share))):
            ticks[starts[stage] + tick] = f"{tick:.0f}"
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_title(TITLES.get(key, f"Loss term {_shown(key.removeprefix('loss_'))}"), pad=14)
    axes.set_xlabel("Epoch of the stage")
    if key == "lr":
        axes.set_yscale("log")  # the stages' rates are far apart
    if key in FRACTIONS:
        _set_percent(axes)


def _shown(text: str) -> str:
    """A name as a picture shows it: on one line, shortened, and not taken for a formula."""
    return shortened(text, 40).replace("$", r"\$")


def _look(index: int) -> dict[str, str]:
    dashes = DASHES[index // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": dashes}


def _whole_ticks(first: float, last: float, *, at_most: int) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(nbins=at_most, integer=True, steps=[1, 2, 3, 5, 6, 10]).tick_values(0, last)
    return [tick for tick in ticks if first <= tick <= last]


def _set_percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02), min(high, 1.02))


class Kind(NamedTuple):
    """A kind of picture: the file that runs write for it, how it is read and drawn, and what it shows."""

    file_name: str
    read: Callable[[Path], Any]
    draw: Callable[[Mapping[str, Any]], Figure]
    what: str
    help: str


KINDS = {
    "cmc": Kind("metrics.json", read_scores, draw_cmc, "CMC curves", "CMC curves of tests in one picture"),
    "training": Kind(
        "metrics.jsonl",
        read_last_run,
        draw_training,
        "training curves",
        "losses, learning rate, accuracy, mAP and Rank-1 over the epochs, stages side by side; when a folder "
        "was trained into several times, of the last run",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what the command line asks for; 0, or SystemExit with status 2 after one line on stderr."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="|".join(KINDS))
    for name, kind in KINDS.items():
        command = commands.add_parser(name, help=kind.help, description=kind.help, allow_abbrev=False)
        command.add_argument(
            "--out", required=True, type=Path, metavar="FILE", help=f"picture: {', '.join(FORMATS)}"
        )
        command.add_argument(
            "files",
            nargs="+",
            metavar="[LABEL=]FILE",
            help=f"{kind.file_name} or its folder; LABEL, else the folder's name, stands in the legend",
        )
    args = parser.parse_args(argv)
    kind = KINDS[args.command]
    with end_in_one_line():
        require_extra("plots")
        from matplotlib import rc_context

        from tools.ranking.fonts import find_fonts

        if args.out.suffix.lower() not in FORMATS:
            raise ValueError(f"--out is {args.out}; allowed: a file name that ends in {', '.join(FORMATS)}")
        require_writable(args.out, "--out")
        sources = parse_sources(args.files, kind.file_name)
        contents = {label: kind.read(path) for label, path in sources.items()}
        fonts = find_fonts(contents)
        if fonts.missing:  # the labels get numbers, which stand alone where letters are missing
            numbered = enumerate(contents.items(), start=1)
            contents = {fonts.drawable(f"{i} {label}", str(i)): content for i, (label, content) in numbered}
            say("%s: runs are numbered in the order given", fonts.describe_missing())
        with rc_context(STYLE | {"font.family": list(fonts.families)}):
            figure, form = kind.draw(contents), args.out.suffix[1:].lower()
            write_atomically(args.out, lambda path: figure.savefig(path, format=form))
    say("%s: %s of %s", args.out, kind.what, ", ".join(sources))
    return 0


if __name__ == "__main__":
    sys.exit(main())
