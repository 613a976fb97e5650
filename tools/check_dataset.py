"""Check a data set for damaged, absent and repeated images, and for labels and captions of little use.

Takes settings as the programs do:
python tools/check_dataset.py DATASETS.NAMES market1501 DATASETS.ROOT_DIR data
python tools/check_dataset.py --captions DATASETS.NAMES folder DATASETS.ROOT_DIR my_captions
Exit status: 0 nothing or only notes found, 1 errors in the data found, 2 a wrong setting or list.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from yacs.config import CfgNode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config import cfg as defaults
from config import cfg_tbps
from config.arguments import Parser, end_in_one_line, parse_arguments, say
from config.errors import as_keys
from config.load import load_config
from utils.files import require_writable, write_atomically
from utils.text import Lines

if TYPE_CHECKING:
    from datasets import CaptionDataset, FileFacts, ReIDDataset

_Dataset = TypeVar("_Dataset", "ReIDDataset", "CaptionDataset")
_NOT_THERE = {"not_there": "splits that are not there"}
_OF_IDENTITIES = ("single_image", "single_camera")  # of use to those who learn from labels


class Faults(NamedTuple):
    """Titles of errors and of notes by name, and what was found of each, one line for each occurrence."""

    errors: dict[str, str]
    notes: dict[str, str]
    found: dict[str, list[str]]


def check(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Print what was found, and exit with status 1 if it is more than notes.

    Raises ValueError or OSError as `make_dataset` or `make_caption_dataset` does, and for wrong options.
    """
    if args.show < 0:
        raise ValueError(f"--show is {args.show}; allowed: 0 (all) or more")
    if args.report:
        require_writable(args.report, "--report")
    find_faults = in_captions if args.captions else in_images
    dataset, paths, faults = find_faults(cfg, need_train=not args.test_only)
    say("Data set %s: %d image files\n%s", dataset.name, len(paths), Lines(dataset.table()))
    for kind, titles in (("", faults.errors), ("note: ", faults.notes)):
        for name, title in titles.items():
            _print_kind(f"{kind}{title}", faults.found[name], args.show)
    are_errors = any(faults.found[name] for name in faults.errors)
    if args.report:
        report = {
            "dataset": dataset.name,
            "files": len(paths),
            "clean": not are_errors,
            "errors": {name: faults.found[name] for name in faults.errors},
            "notes": {name: faults.found[name] for name in faults.notes},
        }
        text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        # Bytes of a name that are no UTF-8 become escapes, as JSON has them.
        content = text.encode("utf-8", "backslashreplace")
        write_atomically(args.report, lambda beside: beside.write_bytes(content))
    if are_errors:
        sys.exit(1)


def in_images(cfg: CfgNode, *, need_train: bool) -> tuple[ReIDDataset, list[str], Faults]:
    """The data set of images, its files and its faults."""
    from datasets import Findings, audit, make_dataset

    read = partial(make_dataset, cfg, need_labels=cfg.CLUSTER.METHOD == "none")
    ways = ({}, {"need_train": False}, {"need_test": False}) if need_train else ({"need_train": False},)
    dataset, not_there = read_what_is_there(read, ways)
    files = _inspect(cfg, dataset)
    notes = Findings.NOTES | {"unmatched": "query identities without a gallery image from another camera"}
    found = {"not_there": not_there, **dataclasses.asdict(audit(dataset, files))}
    found["unmatched"] = unmatched_identities(dataset, files)
    return dataset, list(files), Faults(_NOT_THERE | Findings.ERRORS, notes, found)


def in_captions(cfg: CfgNode, *, need_train: bool) -> tuple[CaptionDataset, list[str], Faults]:
    """The data set of captions, its files and its faults."""
    from datasets import CaptionFindings, Findings, audit, audit_captions, make_caption_dataset
    from model import make_tokenizer

    tokenizer, length = make_tokenizer(cfg), cfg.MODEL.TEXT_LENGTH
    ways = ({}, {"need_train": False}) if need_train else ({"need_train": False},)
    dataset, not_there = read_what_is_there(partial(make_caption_dataset, cfg, for_check=True), ways)
    # First, because a tokenizer may be missing, and images take long.
    found = dataclasses.asdict(audit_captions(dataset, tokenizer.are_cut))
    files = _inspect(cfg, dataset)
    found |= {"not_there": not_there, **dataclasses.asdict(audit(dataset, files))}
    found["unmatched"] = unmatched_identities(dataset, files)
    notes = Findings.NOTES | CaptionFindings.NOTES | {"unmatched": "query identities without a gallery image"}
    notes = {name: title for name, title in notes.items() if name not in _OF_IDENTITIES}
    notes["cut"] += f" or {length} tokens (MODEL.TEXT_LENGTH)"
    errors = _NOT_THERE | Findings.ERRORS | CaptionFindings.ERRORS
    return dataset, list(files), Faults(errors, notes, found)


def read_what_is_there(
    read: Callable[..., _Dataset], ways: Sequence[Mapping[str, bool]]
) -> tuple[_Dataset, list[str]]:
    """The data set in the first way that works, and the reason why the first one does not, if so.

    Ways are the arguments that say which splits are needed. Raises what the first way does, where none works
    because of a split that is absent or empty.
    """
    from datasets import EmptySplit

    reasons: list[FileNotFoundError | EmptySplit] = []
    for needs in ways:
        try:
            return read(**needs), [str(error) for error in reasons[:1]]
        except (FileNotFoundError, EmptySplit) as error:
            reasons.append(error)
    raise reasons[0]


def _inspect(cfg: CfgNode, dataset: ReIDDataset | CaptionDataset) -> dict[str, FileFacts]:
    from datasets import inspect_files, num_workers
    from utils.limits import available_processors

    tested = [record for trial in dataset.trials for record in (*trial.query, *trial.gallery)]
    paths = list(dict.fromkeys(record.path for record in (*dataset.train, *tested)))
    wanted = cfg.DATALOADER.NUM_WORKERS
    workers = available_processors() if wanted < 0 else num_workers(wanted)
    with as_keys({"workers": "DATALOADER.NUM_WORKERS"}):
        return inspect_files(paths, workers)


def unmatched_identities(dataset: ReIDDataset | CaptionDataset, files: Mapping[str, FileFacts]) -> list[str]:
    """Query identities with a query that has no match, each once, with the first such query."""
    from processor import queries_with_match

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
        "--test_only",
        action="store_true",
        help="query and gallery only; that there is no training split is no error then",
    )
    parser.add_argument(
        "--show",
        type=int,
        default=5,
        metavar="N",
        help="occurrences of each kind to print, 0: all (default: %(default)s)",
    )
    parser.add_argument("--report", metavar="FILE", help="write all occurrences there, as JSON")
    parser.add_argument(
        "--captions",
        action="store_true",
        help="csv and folder are captions for train_tbps.py, whose settings are read",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 1 after findings, with 2 after one line on stderr for a wrong setting."""
    args = parse_arguments(argv, defaults, description=__doc__, default_config="", add_options=_add_options)
    with end_in_one_line(show_traceback=args.traceback):
        args.captions = args.captions or _names_captions(args.opts)
        check(load_config(cfg_tbps if args.captions else defaults, args.config_file, args.opts), args)
    return 0


def _names_captions(opts: Sequence[str]) -> bool:
    """Whether DATASETS.NAMES is in these pairs, as a data set that has captions only."""
    from datasets.readers import READERS
    from datasets.readers.captions import CAPTION_READERS

    key = "DATASETS.NAMES"
    names = [value for word, value in zip(opts[::2], opts[1::2], strict=False) if word == key]
    name = load_config(defaults, "", [key, names[-1]]).DATASETS.NAMES if names else ""
    return name in CAPTION_READERS.keys() - READERS.keys()


if __name__ == "__main__":
    sys.exit(main())
