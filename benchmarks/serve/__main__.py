"""A server under load: many clients ask without a pause, on this machine, over HTTP.

`make bench-serve`, or: python -m benchmarks.serve [--clients N] [--seconds N] [--entries N] [--tower NAME]

The table goes to stdout; the exit status is 1 where a request got no answer or one with a status of 4xx or
5xx, except 429, which is counted apart. Clients and server share the processors.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil

from benchmarks.serve.clients import Load, load
from benchmarks.serve.setting import prepare, serving
from config.arguments import Parser, one_or_more
from utils.limits import available_processors

_WARM_UP = 3.0  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 0 where all was answered."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--clients", type=one_or_more, default=200, metavar="N", help="at a time (default: %(default)s)")
    add("--seconds", type=float, default=60.0, metavar="N", help="(default: %(default)g)")
    add(
        "--entries",
        type=one_or_more,
        default=10_000,
        metavar="N",
        help="of the gallery (default: %(default)s)",
    )
    add("--pictures", type=one_or_more, default=64, metavar="N", help="to ask with (default: %(default)s)")
    add("--tower", default="toy", metavar="NAME", help="toy, or a MODEL.NAME (default: %(default)s)")
    add("--queue", type=one_or_more, default=256, metavar="N", help="the server's (default: %(default)s)")
    add("--seed", type=int, default=0, help="of model, gallery and requests (default: %(default)s)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="serve-") as folder:
        setting = prepare(Path(folder), args.tower, args.entries, args.pictures, args.seed)
        with serving(setting, ["--queue", str(args.queue)]) as (process, address):
            server = psutil.Process(process.pid)
            asyncio.run(load(address, server, setting, args.clients, _WARM_UP))
            found = asyncio.run(load(address, server, setting, args.clients, args.seconds))
            counts = httpx.get(f"{address}/metrics", trust_env=False).text
    print(table(found, counts, args.clients, args.entries))
    return 0 if found.ok else 1


def table(found: Load, counts: str, clients: int, entries: int) -> str:
    """The measurements as a table in Markdown."""
    memory = [each / 1e6 for each in found.resident]
    refused = found.statuses[429]
    wrong = {each: n for each, n in sorted(found.statuses.items()) if each >= 400 and each != 429}
    lines = [
        "| request | answered | p50 s | p99 s | most s |",
        "|---|---|---|---|---|",
        *(found.row(kind) for kind in found.seconds),
        "",
        f"{clients} clients for {found.lasted:.0f} s, {entries:,} entries, "
        f"{available_processors()} processors:",
        f"{found.rate:.0f} requests answered per second, {refused:,} refused with 429, "
        f"{found.statuses[0]} without an answer, other errors: {wrong or 'none'}.",
        f"Pictures in one pass of the model: {_mean(counts, 'clipreid_batch_size', 'reid'):.1f} in the mean.",
        f"Memory of the server: {memory[0]:.0f} MB at first, {max(memory):.0f} MB at most, "
        f"{memory[-1]:.0f} MB at last.",
    ]
    return "\n".join(lines)


def _mean(counts: str, name: str, label: str) -> float:
    total, number = (
        float(re.search(rf'^{name}_{part}{{input="{label}"}} (\S+)$', counts, re.MULTILINE)[1])
        for part in ("sum", "count")
    )
    return total / number


if __name__ == "__main__":
    sys.exit(main())
