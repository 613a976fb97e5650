"""Draw rankings as a page and a PNG: queries and their nearest gallery images, right and wrong ones marked.

python tools/rank.py --features logs/run/features.npz --out logs/run/ranking
"""

from __future__ import annotations

import argparse
import difflib
import random
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, one_or_more, say
from config.errors import as_keys
from tools.features.files import about_features, add_feature_options, add_rerank_options, read_task, reranker
from tools.ranking.report import DISTANCE, RERANKED, Album, PaintAttention, Report, count_items, make_rows
from utils.files import require_writable
from utils.logger import setup_logger
from utils.package import require_extra
from utils.text import printable, quoted, shortened

if TYPE_CHECKING:
    from retrieval import FeatureSet, RetrievalTask, TrialFeatures

_QUERIES = 10  # that are shown by default
_SHOWN = 100  # characters of a key in a message


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the program with status 2 and the usage when they are wrong."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    add_feature_options(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for ranking.html and ranking.png")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--queries",
        nargs="+",
        metavar="QUERY",
        help="queries to show: numbers from 0, keys or paths as in the feature file, file names, or words of "
        "a query that is a text",
    )
    which.add_argument("--random", type=one_or_more, metavar="N", help="show N queries drawn by --seed")
    which.add_argument(
        "--worst",
        type=one_or_more,
        metavar="N",
        help=f"show the N queries of lowest average precision (default: {_QUERIES}, or, where no query has a "
        f"match, the first {_QUERIES})",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of --random (default: %(default)s)")
    parser.add_argument(
        "--top", type=one_or_more, default=10, metavar="K", help="images per query (default: %(default)s)"
    )
    parser.add_argument(
        "--trial",
        type=int,
        default=0,
        metavar="N",
        help="which trial of the test, from 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--images", type=Path, metavar="ROOT", help="folder of the images, when they are not where they were"
    )
    add_rerank_options(parser)
    parser.add_argument(
        "--weight", metavar="FILE", help="re-id checkpoint of a ViT: show where it looks in the queries"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="MODEL.NAME of --weight (default: from its card, file name or shapes)",
    )
    parser.add_argument(
        "--sie_coe",
        type=float,
        metavar="X",
        help="MODEL.SIE_COE of --weight (default: its model card's, or 1)",
    )
    parser.add_argument(
        "--attention",
        choices=("rollout", "last"),
        help="attention through all blocks, or of the last one (default: rollout; needs --weight)",
    )
    args = parser.parse_args(argv)
    for option in ("attention", "model", "sie_coe"):
        if getattr(args, option) is not None and not args.weight:
            parser.error(f"--{option} needs --weight, the checkpoint whose attention is shown")
    if args.weight and not args.attention:
        args.attention = "rollout"
    return args


def report(args: argparse.Namespace) -> None:
    """Write the page and the picture that the options ask for, and print what was written."""
    require_extra("plots")
    from retrieval import rank_gallery
    from tools.ranking.pictures import publish

    task = read_task(args)
    if not 0 <= args.trial < len(task):
        raise ValueError(f"--trial is {args.trial}; allowed: 0 to {len(task) - 1}")
    if args.images and not args.images.is_dir():
        raise FileNotFoundError(f"--images {args.images}: no such folder")
    trial = next(islice(task, args.trial, None))
    query, gallery, rule = trial
    # Before ranking: a wrong file is an error at once, not after minutes.
    paint = _painter(args, task, query) if args.weight else None
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    require_writable(out / "ranking.html", "--out")
    with about_features(args):
        queries, choice = choose_queries(args, trial)
        rankings = rank_gallery(query, gallery, queries, args.top, reranker(args), rule)
    upright = task.info.get("orientation") == "exif"  # as the model saw them
    album = Album(args.images, task.names, upright=upright)
    measure = RERANKED if args.rerank else DISTANCE
    rows = make_rows(query, gallery, rankings, album, measure, paint)
    written = Report(
        title=_title(task, args.features),
        facts=_facts(args, task, gallery, choice),
        measure=measure,
        attention=args.attention or "",
        rows=rows,
    )
    say("%s, top %d", choice, args.top)
    publish(written, album, out)
    if album.unreadable and len(album.unreadable) == len(album.seen):
        say("None was found: --images ROOT names the folder in which the images lie now")


def _painter(args: argparse.Namespace, task: RetrievalTask, query: FeatureSet) -> PaintAttention:
    from tools.ranking.attention import attention_painter

    texts = [key for key in query.keys if query.names.text(key)]
    if texts:
        raise ValueError(
            f"--weight shows where a model looks in queries, but {len(texts)} of {len(query)} queries in "
            f"{args.features} are texts, such as {quoted(texts[0])}; allowed: queries that are images"
        )
    setup_logger(None, "", rank=0)
    with as_keys({"name": "--model", "sie_scale": "--sie_coe"}):
        return attention_painter(
            args.weight, args.attention, task.info, name=args.model, sie_scale=args.sie_coe
        )


def choose_queries(args: argparse.Namespace, trial: TrialFeatures) -> tuple[list[int], str]:
    """The query rows that the options ask for, and a line that describes the choice.

    Without such an option they are the first ones where no query can be scored. Raises ValueError for queries
    that do not exist, and for --worst where no query can be scored.
    """
    from retrieval import why_no_match, worst_queries

    total = len(trial.query)
    if args.queries:
        rows = list(dict.fromkeys(find_query(word, trial.query) for word in args.queries))
        return rows, f"{_numbered(len(rows), total)}, as chosen"
    if args.random:
        rows = sorted(random.Random(args.seed).sample(range(total), min(args.random, total)))
        return rows, f"{_numbered(len(rows), total, args.random)}, drawn with seed {args.seed}"
    wanted = args.worst or _QUERIES
    rows = worst_queries(trial.query, trial.gallery, wanted, reranker(args), trial.rule)
    if rows:
        return rows, f"{_numbered(len(rows), total, wanted)}, lowest average precision first"
    reason = why_no_match(trial.query, trial.gallery, trial.rule)
    if args.worst:
        raise ValueError(
            f"{reason}; --worst needs a match in {args.features}: choose queries by --queries or --random"
        )
    rows = list(range(min(wanted, total)))
    say("No query can be scored, the first are shown: %s", reason)
    return rows, f"{_numbered(len(rows), total)}, the first ones"


def _numbered(shown: int, total: int, wanted: int = 0) -> str:
    text = f"{shown} of {total} queries"
    if shown < wanted:
        others = "" if shown == total else ", the others have no match"
        text += f" ({wanted} were asked for{others})"
    return text


def find_query(word: str, query: FeatureSet) -> int:
    """The row that `word` names: a number from 0, a key or path, the end of one, or words of a text.

    Raises ValueError when it names none or several.
    """
    if word.removeprefix("-").isdecimal():
        if not 0 <= int(word) < len(query):
            raise ValueError(f"query {word} does not exist; allowed: 0 to {len(query) - 1}")
        return int(word)
    rows = [row for row, names in enumerate(zip(query.keys, query.paths, strict=True)) if word in names]
    rows = rows or [
        row
        for row, (key, path) in enumerate(zip(query.keys, query.paths, strict=True))
        if key.endswith(f"/{word}") or path.endswith(f"/{word}")
    ]
    said = [] if rows else _saying(word, query)
    rows = rows or said
    if len(rows) > 1:
        verb, what = ("say", "text") if said else ("are called", "name")
        raise ValueError(
            f"{len(rows)} queries {verb} {word!r}: give more of the {what} or a number, "
            f"e.g. {shortened(query.keys[rows[0]], _SHOWN)} or {rows[0]}"
        )
    if not rows:
        names = {PurePath(key).name: key for key in query.keys}
        near = difflib.get_close_matches(PurePath(word).name, names, n=3, cutoff=0)
        near = ", ".join(shortened(name, _SHOWN) for name in near)
        raise ValueError(f"no query is called {word!r}; nearest: {near}")
    return rows[0]


def _saying(words: str, query: FeatureSet) -> list[int]:
    """Rows whose text has all the words, or parts of words."""
    wanted = words.casefold().split()
    texts = (query.names.text(key).casefold() for key in query.keys)
    return [row for row, text in enumerate(texts) if wanted and all(word in text for word in wanted)]


def _title(task: RetrievalTask, path: str) -> str:
    parts = [str(task.info[key]) for key in ("dataset", "model") if task.info.get(key)]
    return printable(" · ".join(parts) or PurePath(path).name)


def _facts(
    args: argparse.Namespace, task: RetrievalTask, gallery: FeatureSet, choice: str
) -> tuple[str, ...]:
    facts = [choice, f"gallery of {count_items(gallery)}"]
    if len(task) > 1:
        name = task.trials[args.trial].name
        facts.append(f"trial {args.trial} of {len(task)}{name and f', {shortened(name, 40)}'}")
    if args.rerank:
        facts.append("re-ranked")
    return tuple(facts)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    args = parse_arguments(argv)
    with end_in_one_line():
        report(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
