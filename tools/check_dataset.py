"""Check a data set for damaged, absent and repeated images, and for labels of little use.

Takes settings as the programs do:
python tools/check_dataset.py DATASETS.NAMES market1501 DATASETS.ROOT_DIR data
Exit status: 0 nothing or only notes found, 1 errors in the data found, 2 a wrong setting or list.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from yacs.config import CfgNode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config import cfg as defaults
from config.arguments import Parser, run_program, say
from config.errors import as_keys
from datasets import (
    FileFacts,
    Findings,
    ReIDDataset,
    audit,
    available_processors,
    inspect_files,
    make_dataset,
    num_workers,
)
from processor import queries_with_match
from utils.files import require_writable, write_atomically
from utils.text import Lines

_NOTES = Findings.NOTES | {"unmatched": "query identities without a gallery image from another camera"}


def check(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Print what was found, and exit with status 1 if it is more than notes.

    Raises ValueError or OSError as `make_dataset` does, and for wrong options.
    """
    if args.show < 0:
        raise ValueError(f"--show is {args.show}; allowed: 0 (all) or more")
    if args.report:
        require_writable(args.report, "--report")
    dataset = make_dataset(cfg, need_train=not args.test_only, need_labels=cfg.CLUSTER.METHOD == "none")
    paths = list(dict.fromkeys(record.path for record in (*dataset.train, *dataset.test_records())))
    wanted = cfg.DATALOADER.NUM_WORKERS
    workers = available_processors() if wanted < 0 else num_workers(wanted)
    with as_keys({"workers": "DATALOADER.NUM_WORKERS"}):
        files = inspect_files(paths, workers)
    findings = audit(dataset, files)
    found = dataclasses.asdict(findings) | {"unmatched": unmatched_identities(dataset, files)}
    say("Data set %s: %d image files\n%s", dataset.name, len(paths), Lines(dataset.table()))
    for kind, titles in (("", Findings.ERRORS), ("note: ", _NOTES)):
        for name, title in titles.items():
            _print_kind(f"{kind}{title}", found[name], args.show)
    if args.report:
        report = {
            "dataset": dataset.name,
            "files": len(paths),
            "clean": not findings.are_errors,
            "errors": {name: found[name] for name in Findings.ERRORS},
            "notes": {name: found[name] for name in _NOTES},
        }
        text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        # Bytes of a name that are no UTF-8 become escapes, as JSON has them.
        content = text.encode("utf-8", "backslashreplace")
        write_atomically(args.report, lambda beside: beside.write_bytes(content))
    if findings.are_errors:
        sys.exit(1)


def unmatched_identities(dataset: ReIDDataset, files: Mapping[str, FileFacts]) -> list[str]:
    """Query identities with a query that has no match, each once, with the first such query."""
    pictures = {path: facts.digest or path for path, facts in files.items()}
    lost: dict[int, str] = {}  # text by pid
    for trial in dataset.trials:
        for query, has_match in zip(trial.query, queries_with_match(trial, pictures), strict=True):
            if not has_match:
                lost.setdefault(query.pid, f"identity {query.texts.identity or query.pid}, {query.path}")
    return list(lost.values())


def _print_kind(title: str, lines: Sequence[str], show: int) -> None:
    say("%s: %d", title, len(lines))
    shown = lines[:show] if show else lines
    for line in shown:
        say("  %s", line)
    if len(shown) < len(lines):
        say("  and %d more", len(lines) - len(shown))


def _add_options(parser: Parser) -> None:
    parser.add_argument(
        "--test_only", action="store_true", help="query and gallery only; the training split may be absent"
    )
    parser.add_argument(
        "--show",
        type=int,
        default=5,
        metavar="N",
        help="occurrences of each kind to print, 0: all (default: %(default)s)",
    )
    parser.add_argument("--report", metavar="FILE", help="write all occurrences there, as JSON")


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 1 after findings, with 2 after one line on stderr for a wrong setting."""
    return run_program(
        check, defaults, description=__doc__, default_config="", argv=argv, add_options=_add_options
    )


if __name__ == "__main__":
    sys.exit(main())
