"""Find distance thresholds for "these two images show one identity", with the error rates of each.

python tools/threshold.py --features logs/run/features.npz --out logs/run/threshold

The folder gets threshold.json and threshold.png.
"""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say
from tools.features.files import about_features, add_feature_options, read_task
from utils.files import make_output_dir, write_atomically
from utils.package import require_extra
from utils.text import Lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from retrieval import AcceptRates, Interval, OpenSetPoint, PairScores, RetrievalTask

# Okabe and Ito's colours, told apart with any colour vision.
_SAME, _DIFFERENT, _MARK = "#0072B2", "#D55E00", "#555555"
_LEGEND_ROWS, _LEGEND_WIDTH = 7, 40  # entries before a second column, and characters of a line


def report(
    task: RetrievalTask, scores: PairScores, fars: Sequence[float], *, rounds: int, seed: int
) -> dict[str, Any]:
    """The content of threshold.json: plain numbers, None where something cannot be measured."""
    from retrieval import accept_rates, open_set_points, operating_points

    curve = accept_rates(scores)
    points = operating_points(task, scores, fars, rounds=rounds, seed=seed)

    def with_cosine(entry: dict[str, Any]) -> dict[str, Any]:
        distance = entry["threshold"]
        known = scores.unit_norm and distance is not None
        return entry | {"cosine": 1 - distance / 2 if known else None}

    def open_set(point: OpenSetPoint) -> dict[str, Any]:
        rates = point.rates and point.rates._asdict()
        return with_cosine(asdict(point) | {"rates": rates})

    return {
        "info": dict(task.info),
        "distance": "squared Euclidean",
        "unit_norm": scores.unit_norm,
        "trials": len(task),
        "queries": len(scores.own),
        "query_identities": scores.identities,
        "queries_with_match": int(np.isfinite(scores.own).sum()),
        "queries_absent_from_gallery": scores.absent,
        "same_pairs": int(scores.same.sum()),
        "different_pairs": int(scores.different.sum()),
        "bin_width": scores.bin_width,
        "bootstrap_rounds": rounds,
        "seed": seed,
        "auc": curve.area(),
        "equal_error": with_cosine(curve.equal_error()._asdict()),
        "accept": [with_cosine(asdict(point)) for point in points],
        "open_set": [open_set(point) for point in open_set_points(scores, points)],
    }


def as_text(found: dict[str, Any], noun: str) -> str:
    """The report in Markdown, a summary and two tables; `noun` is for what is compared."""
    equal = found["equal_error"]
    return "\n\n".join(
        [
            f"{found['same_pairs']:,} pairs of one identity and {found['different_pairs']:,} of different "
            f"identities; {found['queries']:,} queries of {found['query_identities']:,} identities.\n"
            f"Equal error rate {equal['rate']:.2%} at distance {_distance(equal)}; "
            f"area under the ROC curve {found['auc']:.5f}.",
            f"Two {noun}: how many pairs of different identities are taken for one (false accepts), "
            "how many of one are recognised (true accepts)?",
            _accept_table(found),
            f"Open set: {found['queries_with_match']:,} queries with a match in the gallery are searched; "
            f"all {found['queries']:,} are searched as strangers, their identity taken out of the gallery "
            f"({found['queries_absent_from_gallery']:,} are absent anyway).",
            _open_set_table(found),
            f"Distances are squared Euclidean, exact to {found['bin_width']:.1g}.",
        ]
    )


def _accept_table(found: dict[str, Any]) -> str:
    rows = [["false accepts", "distance up to", "95% interval", "true accepts", "95% interval"]]
    for point in found["accept"]:
        if point["threshold"] is None:
            rows.append([f"{point['far']:g}", point["reason"], "", "", ""])
            continue
        rows.append(
            [
                f"{point['far']:g}",
                _distance(point),
                _range(point["threshold_interval"], "{:.4g}"),
                f"{point['true_accept']:.1%}",
                _range(point["true_accept_interval"], "{:.1%}"),
            ]
        )
    return _table(rows)


def _open_set_table(found: dict[str, Any]) -> str:
    rows = [["threshold for", "distance up to", "false alarms", "found", "wrong", "missed"]]
    for point in found["open_set"]:
        kept = f"{'false accepts' if point['measure'] == 'FAR' else 'false alarms'} {point['rate']:g}"
        if point["threshold"] is None:
            rows.append([kept, point["reason"], "", "", "", ""])
            continue
        rates = [f"{point['rates'][name]:.1%}" for name in ("false_alarm", "found", "wrong", "missed")]
        rows.append([kept, _distance(point), *rates])
    return _table(rows)


def _distance(entry: dict[str, Any]) -> str:
    cosine = "" if entry["cosine"] is None else f" (cosine {entry['cosine']:.3f})"
    return f"{entry['threshold']:.4g}{cosine}"


def _range(interval: Interval | None, form: str) -> str:
    return "" if interval is None else " – ".join(form.format(value) for value in interval)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown with padded columns; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def draw(found: dict[str, Any], scores: PairScores, noun: str) -> Figure:
    """Three panels: how distances are distributed, the ROC curve, and the open set against the threshold."""
    from matplotlib.figure import Figure

    from retrieval import accept_rates

    figure = Figure(figsize=(15, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    curve = accept_rates(scores)
    # An axis needs a length even where all distances are 0.
    left.set_title(f"Pairs of {noun}")
    middle.set_title(f"Are two {noun} of one identity?")
    _draw_distributions(left, scores, curve.thresholds[np.searchsorted(curve.false, 0.999)] or 1.0)
    _mark_thresholds(left, "FAR", [(point["far"], point["threshold"]) for point in found["accept"]])
    _draw_roc(middle, curve, found)
    alarms = [point for point in found["open_set"] if point["measure"] == "FPIR"]
    _draw_open_set(right, scores, [(point["rate"], point["threshold"]) for point in alarms])
    left.legend(loc="upper left")
    return figure


def _draw_distributions(axes: Axes, scores: PairScores, end: float) -> None:
    edges = np.linspace(0, end, 101)
    bins = np.floor(edges / scores.bin_width).astype(np.int64)
    for counts, colour, name in (
        (scores.same, _SAME, "one identity"),
        (scores.different, _DIFFERENT, "different identities"),
    ):
        within = np.cumsum(counts)[bins]
        within[0] = 0  # pairs of distance 0 are drawn too
        density = np.diff(within) / counts.sum() / np.diff(edges)
        axes.stairs(density, edges, fill=True, alpha=0.3, color=colour)
        axes.stairs(density, edges, color=colour, label=f"{name}, {counts.sum():,} pairs")
    axes.set(xlabel="squared Euclidean distance", ylabel="density", xlim=(0, end))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.25)  # room for the legend


def _draw_roc(axes: Axes, curve: AcceptRates, found: dict[str, Any]) -> None:
    changes = np.flatnonzero(np.diff(curve.false, prepend=0) + np.diff(curve.true, prepend=0))
    axes.plot(curve.false[changes], curve.true[changes], color=_SAME, label=f"area {found['auc']:.4f}")
    rate = found["equal_error"]["rate"]
    axes.plot(rate, 1 - rate, "o", color=_DIFFERENT, label=f"equal error rate {rate:.2%}")
    # In the legend: beside its point a rate near 0 or 1 would be on the axis, or on the next one.
    known = [point for point in found["accept"] if point["threshold"] is not None]
    for point in sorted(known, key=lambda point: point["far"]):
        label = f"{point['true_accept']:.1%} at FAR {point['far']:g}"
        place = point["far"], point["true_accept"]
        axes.plot(*place, "s", color=_MARK, markersize=5, clip_on=False, label=label)
    axes.set(xlabel="false accept rate (FAR)", xscale="log")
    axes.set(xlim=(max(1e-6, 1 / found["different_pairs"]), 1))
    _set_shares(axes, "true accept rate", 2 + len(known))


def _draw_open_set(axes: Axes, scores: PairScores, alarms: Sequence[tuple[float, float | None]]) -> None:
    from retrieval import OpenSetRates, open_set_rates

    nearest = np.concatenate([scores.other, np.minimum(scores.own, scores.other)])
    end = nearest[np.isfinite(nearest)].max() * 1.05 or 1.0
    thresholds = np.linspace(0, end, 400)
    rates = np.array([open_set_rates(scores, float(threshold)) for threshold in thresholds])
    found, alarm, wrong = (
        rates[:, OpenSetRates._fields.index(name)] for name in ("found", "false_alarm", "wrong")
    )
    for share, label, colour, style in (
        (found, f"found, at most {found.max():.1%}", _SAME, "-"),
        (alarm, "false alarm for a stranger", _DIFFERENT, "--"),
        (wrong, f"wrong identity, at most {wrong.max():.1%}", _MARK, ":"),
    ):
        axes.plot(thresholds, share, style, color=colour, linewidth=2, label=label)
    axes.set(title="Is the nearest image the one?", xlabel="threshold (squared Euclidean distance)")
    axes.set(xlim=(0, end))
    _mark_thresholds(axes, "false alarms", alarms)
    _set_shares(axes, "share of queries", 4)


def _set_shares(axes: Axes, name: str, entries: int) -> None:
    """A vertical axis from 0 to 1 with room above it for a legend of so many entries."""
    columns = 1 + (entries > _LEGEND_ROWS)
    rows = math.ceil(entries / columns)
    axes.set(ylabel=name, yticks=np.linspace(0, 1, 6), ylim=(0, 1.03 / (1 - 0.06 * (rows + 0.5))))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", ncols=columns)


def _mark_thresholds(axes: Axes, measure: str, marks: Sequence[tuple[float, float | None]]) -> None:
    """A line at each threshold; one legend entry names their rates, from left to right."""
    known = sorted((threshold, rate) for rate, threshold in marks if threshold is not None)
    rates = ", ".join(f"{rate:g}" for _, rate in known)
    for i, (threshold, _) in enumerate(known):
        label = textwrap.fill(f"{measure} {rates}", _LEGEND_WIDTH) if i == 0 else None
        axes.axvline(threshold, color=_MARK, linewidth=1, linestyle=(0, (5, 3)), label=label)


def _output_folder(path: str) -> Path:
    try:
        return make_output_dir(path)
    except OSError as error:
        raise OSError(f"--out {path} cannot be written to: {error.__cause__.strerror}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    add_feature_options(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the report and the picture")
    parser.add_argument(
        "--far",
        type=float,
        nargs="+",
        default=[1e-2, 1e-3, 1e-4],
        metavar="RATE",
        help="false accept rates to give thresholds for (default: 1e-2 1e-3 1e-4)",
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="rounds behind the intervals; 0 = no intervals (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="equal seeds give equal intervals (default: 0)"
    )
    args = parser.parse_args(argv)
    with end_in_one_line():
        require_extra("plots")
        from retrieval import score_pairs

        folder = _output_folder(args.out)
        task = read_task(args)
        with about_features(args):
            scores = score_pairs(task)
        noun = "items" if task.names.items else "images"
        found = report(task, scores, args.far, rounds=args.bootstrap, seed=args.seed)
        found = {"features": args.features, "gallery": args.gallery} | found
        text = json.dumps(found, indent=2, allow_nan=False) + "\n"
        write_atomically(folder / "threshold.json", lambda path: path.write_text(text, encoding="utf-8"))
        write_atomically(
            folder / "threshold.png", lambda path: draw(found, scores, noun).savefig(path, format="png")
        )
    say("%s", Lines(as_text(found, noun)))
    say("\nWritten: %s, %s", folder / "threshold.json", folder / "threshold.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
