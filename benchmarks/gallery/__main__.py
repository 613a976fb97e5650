"""A gallery in Milvus Lite next to faiss and a matrix product: speed, memory, disk, and recall of HNSW.

`make bench-gallery`, or: python -m benchmarks.gallery [--sizes N …] [--address http://host:19530/database]

Features are drawn, 512 wide, with the structure of people in six cameras. Every work is a process of its own,
whose memory counts from when libraries are there. What is found must be what the matrix product finds, or the
program ends.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gallery.drawn import QUERIES, DrawnGallery
from benchmarks.gallery.works import WORKS, K
from benchmarks.measure import run_alone
from config.arguments import Parser

TOLERANCE = 1e-5  # of a similarity in float32
_MANY = f"q{QUERIES}_ms"
Row = tuple[int, str, dict[str, Any]]


def time_here(work: str, args: argparse.Namespace) -> dict[str, Any]:
    """One work, in this process."""
    return {"work": work} | WORKS[work](DrawnGallery(args.sizes[0], args.seed), args.address)


def time_size(size: int, args: argparse.Namespace) -> list[Row]:
    """The rows of the table for one size; prints a JSON line for each work."""

    def run(work: str) -> dict[str, Any]:
        options = ["--sizes", str(size), "--seed", str(args.seed), "--address", address, "--here", work]
        numbers = run_alone("benchmarks.gallery", options)
        shown = {name: value for name, value in numbers.items() if not isinstance(value, list)}
        print(json.dumps({"size": size} | shown), flush=True)
        return numbers

    with nullcontext() if args.address else tempfile.TemporaryDirectory(dir=args.folder) as folder:
        address = args.address or str(Path(folder, "gallery.db"))
        added = run("add")
        exact = added | run("search")
        product = run("product")
        require_equal(f"{size:,} entries", exact, product)
        rows = [(size, "gallery, flat", exact)]
        if args.hnsw:
            hnsw = run("index") | run("search")
            rows.append((size, "gallery, HNSW", hnsw | {"recall": recall(hnsw, product)}))
    rows += [(size, "faiss flat", run("faiss")), (size, "matrix product", product)]
    require_equal(f"faiss, {size:,} entries", rows[-2][2], product)
    return rows


def require_equal(name: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise ValueError where nearest entries differ by more than the rounding of similarities explains."""
    for kind in ("", "camera_"):
        difference = np.abs(np.subtract(found[f"{kind}similarities"], expected[f"{kind}similarities"])).max()
        same = [
            row in other or abs(similarity - others[-1]) <= TOLERANCE
            for rows, similarities, other, others in zip(
                found[f"{kind}rows"],
                found[f"{kind}similarities"],
                expected[f"{kind}rows"],
                expected[f"{kind}similarities"],
                strict=True,
            )
            for row, similarity in zip(rows, similarities, strict=True)
        ]
        if difference > TOLERANCE or not all(same):
            raise ValueError(
                f"{name}: similarities differ from the matrix product's by {difference:.2g}, allowed is "
                f"{TOLERANCE:g}; {same.count(False)} of {len(same)} entries are others"
            )


def recall(found: dict[str, Any], exact: dict[str, Any]) -> float:
    """The share of the exact nearest entries that are found, 0..1."""
    pairs = zip(found["rows"], exact["rows"], strict=True)
    return float(np.mean([len(set(rows) & set(others)) / K for rows, others in pairs]))


def table(rows: Sequence[Row]) -> str:
    """A Markdown table; times of searches with their ratio to the matrix product's."""
    lines = [
        f"| entries | by | added a second | opened in | one query | {QUERIES} queries | one, its camera left "
        f"out | MB | MB on disk | recall@{K} |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    products = {size: numbers for size, name, numbers in rows if name == "matrix product"}

    def time_cell(numbers: dict[str, Any], name: str, size: int) -> str:
        ratio = numbers[name] / products[size][name]
        return f"{_three_digits(numbers[name])} ms" + ("" if ratio == 1 else f" ({_three_digits(ratio)}×)")

    for size, name, numbers in rows:
        seconds, opened = numbers.get("add_seconds"), numbers.get("open_seconds")
        cells = (
            f"{size:,}",
            name,
            f"{float(_three_digits(size / seconds)):,.0f}" if seconds else "–",
            f"{_three_digits(opened)} s" if opened else "–",
            *(time_cell(numbers, kind, size) for kind in ("one_ms", _MANY, "camera_ms")),
            f"{numbers['megabytes']:,.0f}",
            f"{numbers['disk_megabytes']:,.0f}" if numbers.get("disk_megabytes") else "–",
            f"{numbers.get('recall', 1):.3f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line for each work and the table at the end."""
    parser = Parser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000], help="entries")
    parser.add_argument("--seed", type=int, default=0, help="of the features (default: %(default)s)")
    parser.add_argument("--address", default="", help="of an empty database of a Milvus server, one size")
    parser.add_argument("--folder", help="for galleries (default: the one for temporary files)")
    parser.add_argument("--no-hnsw", dest="hnsw", action="store_false", help="leave HNSW out")
    parser.add_argument("--here", choices=WORKS, help="do this work alone, in this process")
    args = parser.parse_args(argv)
    if args.here:
        print(json.dumps(time_here(args.here, args)))
        return
    if args.address and len(args.sizes) > 1:
        parser.error("--address takes one of --sizes")
    rows = [row for size in args.sizes for row in time_size(size, args)]
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
