"""gallery.py create, rename, export, import, index and compact."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from config.arguments import Parser, one_or_more, say
from tools.gallery_commands.options import (
    Command,
    add_model_options,
    load_models,
    no_words,
    number,
)
from utils.files import require_writable
from utils.text import quoted

_INDEXES, _SPACES = ("flat", "hnsw"), ("reid", "text")


def add_create_options(parser: Parser) -> None:
    """Add the options of models and index."""
    add_model_options(parser)
    parser.add_argument(
        "--index",
        choices=_INDEXES,
        default="flat",
        help="flat (default) is exact, hnsw approximate and faster in large galleries",
    )


def create(args: argparse.Namespace) -> None:
    """Make an empty gallery for features of the models, or a space for a further one."""
    from retrieval import Gallery

    no_words(args)
    if args.weight is None and args.text_weight is None:
        raise ValueError(
            "no model is given; needed: --weight for images, --text-weight for sentences, or both"
        )
    models = load_models(args, "cpu")
    with Gallery.create(
        args.gallery, {space: model.space_model for space, model in models.items()}, index=args.index
    ) as gallery:
        for space in models:
            say("%s: space %s for features of %s", args.gallery, space, gallery.models[space])


def add_rename_options(parser: Parser) -> None:
    """Add the options of entries."""
    parser.add_argument(
        "--key", nargs="+", metavar="KEY", help="name these entries only; the word is the name"
    )


def rename(args: argparse.Namespace) -> None:
    """Give an identity, or some entries, a name; that of another identity makes both one."""
    from retrieval import Gallery

    if len(args.words) != (1 if args.key else 2):
        words = "NEW" if args.key else "OLD NEW, or NEW with --key"
        raise ValueError(f"{len(args.words)} words follow the address; needed: {words}")
    new = args.words[-1]
    with Gallery.open(args.gallery) as gallery:
        if args.key:
            say("%s now: %s", new or "without a name", number(gallery.assign(args.key, new)))
            return
        old = args.words[0]
        if not old:
            raise ValueError("OLD is ''; allowed: a name, or --key for entries without one")
        names = gallery.identities()
        if old not in names:
            raise ValueError(f"no entry is named {quoted(old)}; `stats` shows the names")
        count = gallery.rename(old, new)
        say("%s of %s now: %s", number(count), old, new or "without a name")
        if new and new != old and new in names:
            say("%s had %s before: both are one now", new, number(names[new]))


def add_export_options(parser: Parser) -> None:
    """Add the options of file and space."""
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="feature file, features.npz")
    _add_space(parser)


def export(args: argparse.Namespace) -> None:
    """Write a space as a feature file, which tools/evaluate.py, rank.py and threshold.py read."""
    from retrieval import Gallery

    no_words(args)
    require_writable(args.out, "--out")
    with Gallery.open(args.gallery) as gallery:
        count = gallery.export_features(args.out, args.space or gallery.spaces[0])
    say("%s written to %s", number(count, "features"), args.out)


def import_files(args: argparse.Namespace) -> None:
    """Add the items of feature files of the space's model; those of equal keys are replaced."""
    from retrieval import Gallery

    if not args.words:
        raise ValueError("no file is named; needed: feature files, of `export` or tools/extract.py")
    with Gallery.open(args.gallery) as gallery:
        gallery.accept(gallery.models)  # the files say whether they are of them
        for path in args.words:
            count = gallery.import_features(path, args.space or gallery.spaces[0])
            say("%s added from %s", number(count, "features"), path)


def _add_space(parser: Parser) -> None:
    parser.add_argument("--space", choices=_SPACES, help="default: reid, if the gallery has it, else text")


def add_index_options(parser: Parser) -> None:
    """Add the options of the measurement."""
    add = parser.add_argument
    add("--recall", type=one_or_more, metavar="K", help="measure which share of the exact K nearest is found")
    add("--questions", type=one_or_more, default=200, metavar="N", help="entries that ask (default: 200)")
    add("--seed", type=int, default=0, metavar="N", help="of the draw of entries (default: 0)")


def index(args: argparse.Namespace) -> None:
    """Change how the gallery is searched, and measure what a search finds of what is there."""
    from retrieval import Gallery

    if len(args.words) > 1 or not {*args.words} <= {*_INDEXES}:
        raise ValueError(
            f"{quoted(' '.join(args.words))} follows the address; allowed: flat, hnsw or nothing"
        )
    with Gallery.open(args.gallery) as gallery:
        gallery.accept(gallery.models)  # entries of its own ask
        if args.words:
            gallery.set_index(args.words[0])
        names = gallery.indexes
        kinds = set(names.values())
        say("index: %s", *kinds if len(kinds) == 1 else [", ".join(map(" ".join, names.items()))])
        for space in gallery.spaces if args.recall else ():
            keys = [entry.key for entry in gallery.entries(space)]
            asked = sorted(random.Random(args.seed).sample(keys, min(args.questions, len(keys))))
            if not asked:
                say("space %s has no entry to ask for", space)
                continue
            found = gallery.recall(gallery.features(asked, space), args.recall, space)
            say(
                "space %s, %d nearest of %s: %.2f%% found",
                *(space, args.recall, number(len(asked)), 100 * found),
            )


def compact(args: argparse.Namespace) -> None:
    """Write the gallery afresh, so that nothing of removed entries is left on the disk."""
    from retrieval import Gallery

    no_words(args)
    with Gallery.open(args.gallery) as gallery:
        gallery.compact()
    say("%s is written afresh", args.gallery)


def _no_options(parser: Parser) -> None:
    """The address only."""


CREATE = Command("Make an empty gallery for a model, or for two.", "", add_create_options, create)
RENAME = Command(
    "Name an identity, or entries by --key; the name of another identity makes both one.",
    "[OLD] NEW",
    add_rename_options,
    rename,
)
EXPORT = Command(
    "Write features and what is known of them as a feature file.", "", add_export_options, export
)
IMPORT = Command(
    "Add feature files of `export`, of a test or of extract.py.", "FILE...", _add_space, import_files
)
INDEX = Command("Show or change how it is searched, and measure it.", "[flat|hnsw]", add_index_options, index)
COMPACT = Command("Erase from the disk what was removed.", "", _no_options, compact)
