"""Table of faults: toy runs are killed, stopped, out of disk, then resumed and compared to the bit.

`make bench-faults`, or: python -m benchmarks.faults [--only NAME ...] [--kills N] [--seed N] [--soak MINUTES]

A toy CLIP tower is trained on small noise images, in about four seconds a run. The table goes to stdout; the
exit status is 1 when something is not as it should be. Linux only.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.faults import numbers, single
from benchmarks.faults.bits import bits
from benchmarks.faults.rows import Row, table
from benchmarks.faults.runs import Bench
from benchmarks.faults.soak import soak
from benchmarks.faults.torchrun import orphans, rank
from config.arguments import Parser

SCENARIOS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "kill": single.kill,
    "stop": single.stop,
    "disk": single.disk,
    "folder": single.folder,
    "image": single.image,
    "worker": single.worker,
    "bits": bits,
    "together": single.together,
    "rank": rank,
    "orphans": orphans,
    "nan": numbers.nan,
    "processes": numbers.processes,
    "soak": soak,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table to stdout and each row as it comes to stderr; --json writes rows to a file."""
    parser = Parser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--kills", type=int, default=30, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of images and moments (default: %(default)s)")
    parser.add_argument(
        "--soak", type=float, default=0, metavar="MINUTES", help="of training under a watch (default: none)"
    )
    parser.add_argument("--json", metavar="FILE", help="file for one JSON line per row")
    args = parser.parse_args(argv)
    if sys.platform != "linux":
        parser.error(f"it forks, kills and reads /proc, which {sys.platform} has not; allowed: Linux")
    if args.kills < 0 or args.soak < 0:
        parser.error("--kills and --soak are 0 or more")
    if "soak" in (args.only or ()) and not args.soak:
        parser.error("soak needs --soak MINUTES")
    torch.set_num_threads(1)  # a forked process would lack the threads
    chosen = args.only or [name for name in SCENARIOS if name != "soak" or args.soak]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        bench = Bench(Path(folder), seed=args.seed, kills=args.kills, soak=args.soak)
        for name in chosen:
            for row in SCENARIOS[name](bench):
                rows.append(row)
                print(f"{'ok' if row.ok else 'NOT OK'}: {row.fault}: {row.outcome}", file=sys.stderr)
    print(table(rows))
    if args.json:
        Path(args.json).write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows))
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
