"""Captions: cleaning, how text search varies them, and which image of a re-id data set has which.

The first two are TBPS-CLIP's (Cao, Bai, Zeng, Ye, Zhang, AAAI 2024); deletion is that of EDA (Wei, Zou, EMNLP
2019).
"""

import itertools
import logging
import operator
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated

from pydantic import ConfigDict

from datasets.records import CaptionRecord, ImageRecord
from utils.scripts import clusters, has_runs, runs
from utils.text import few, quoted
from utils.untrusted.forms import Form, Texts, parse_json
from utils.untrusted.plain import MEBIBYTE, read_plain_text
from utils.untrusted.table import check_cell, read_table

Pieces = Callable[[str], Sequence[str]]

MAX_WORDS = 77
_BETWEEN = "|"  # captions in a cell
_MAX_FILE = 128 * MEBIBYTE
# CUHK-PEDES describes the drawn box of a frame, by which Market-1501 has detected ones: their names end in
# the box's number.
_DRAWN, _BOX = "_00.jpg", 7
_AS_SPACES = str.maketrans(dict.fromkeys('.!"()*#:;~', " "))
_SPACES = re.compile(r"\s{2,}")
_logger = logging.getLogger("transreid.datasets")


def clean_caption(caption: str, max_words: int = MAX_WORDS) -> str:
    """The caption in lower case without `. ! " ( ) * # : ; ~`, cut to its first `max_words` words.

    Training, tests and searches clean alike. Commas, question marks, apostrophes and hyphens stay.
    """
    return " ".join(_words(caption)[:max_words])


def count_words(caption: str) -> int:
    """How many words cleaning leaves of a caption before it cuts, 0 where nothing can be read."""
    words = _words(caption)
    return len(words) if "".join(words).strip() else 0


def delete_words(caption: str, probability: float, rng: random.Random, pieces: Pieces = clusters) -> str:
    """The caption with each word left out with the given probability; one word, drawn, stays if all would go.

    The rest is joined by single spaces. In a script without spaces the words are the `pieces` of a run of its
    letters, which keep what else stands behind them, such as a comma.

    Args:
        pieces: the parts of a run, in their order; by default its letters.
    """
    words = list(enumerate(caption.split()))
    if has_runs(caption):
        words = [(number, unit) for number, word in words for unit in _units(word, pieces)]
    kept = [word for word in words if rng.random() >= probability]
    if words and not kept:
        kept = [rng.choice(words)]
    groups = itertools.groupby(kept, key=operator.itemgetter(0))
    return " ".join("".join(unit for _, unit in group) for _, group in groups)


def _units(word: str, pieces: Pieces) -> list[str]:
    """The word, or its parts if it has letters of a script without spaces: each is left out as a whole."""
    units: list[str] = []
    start = ""  # signs before the first letter
    for part, is_run in runs(word):
        if is_run:
            units += filter(None, pieces(part))
        elif any(map(str.isalnum, part)):
            units.append(part)
        elif units:
            units[-1] += part
        else:
            start = part
        if start and units:
            units[0], start = start + units[0], ""
    return units or [word]


def vary_caption(
    record: CaptionRecord, seed: int, *, back_translation: float, deletion: float, pieces: Pieces = clusters
) -> str:
    """A training caption as `seed` draws it: its back translation or itself, then without some words.

    `back_translation` is the probability of the first, for records that have one, `deletion` that of leaving
    out a word; `pieces` as in `delete_words`.
    """
    rng = random.Random(seed)
    is_translated = rng.random() < back_translation and record.back_translation
    return delete_words(record.back_translation if is_translated else record.caption, deletion, rng, pieces)


def _words(caption: str) -> list[str]:
    spaced = _SPACES.sub(" ", caption.lower().translate(_AS_SPACES))
    return spaced.rstrip("\n").strip(" ").split(" ")


# ---- captions of the images of a re-id data set


class _Row(Form):
    """An image of CUHK-PEDES's file."""

    file_path: str
    captions: Texts


class _Rows(Form):
    rows: list[_Row]


class _Map(Form):
    """A JSON object of file names and their captions."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[list[str], ...]]


def read_captions(path: str | Path) -> dict[str, list[str]]:
    """Captions by the name of their image, from a file of one of three forms.

    JSON: a list of objects with file_path and captions, as CUHK-PEDES's, whose names are the file names
    alone; or an object of names with lists of captions. CSV: the columns path and caption, with | between
    captions; names are paths as written. Of two equal names the last one counts, with a warning where
    captions differ.
    Raises FileNotFoundError, or ValueError for another form.
    """
    found: dict[str, list[str]] = {}
    differing = set()
    for name, texts in _named_captions(Path(path)):
        if name in found and found[name] != texts:
            differing.add(name)
        found[name] = texts
    if differing:
        names = few([quoted(name) for name in sorted(differing)])
        _logger.warning(
            "%s: %d images have captions in several rows, of which the last counts: %s",
            *(path, len(differing), names),
        )
    return found


def _named_captions(path: Path) -> Iterable[tuple[str, list[str]]]:
    if path.suffix.lower() == ".csv":
        return _joined(_cells(path))
    text = read_plain_text(path, _MAX_FILE)
    if text.lstrip().startswith("["):
        content = parse_json(f'{{"rows": {text}}}', _Rows, str(path))
        return [(PurePath(row.file_path).name, row.captions) for row in content.rows]
    return (parse_json(text, _Map, str(path)).model_extra or {}).items()


def _cells(path: Path) -> Iterable[tuple[str, list[str]]]:
    for cells, where in read_table(path, ("path", "caption"), ()):
        check_cell("path", cells["path"], where)
        check_cell("caption", cells["caption"], where, may_be_empty=True)
        yield cells["path"], cells["caption"].split(_BETWEEN)


def _joined(rows: Iterable[tuple[str, Sequence[str]]]) -> Iterable[tuple[str, list[str]]]:
    """Rows of one image as one, under its path as it is looked for; blank captions are left out."""
    found: dict[str, list[str]] = {}
    for name, texts in rows:
        texts = [text.strip() for text in texts if text.strip()]
        found.setdefault(PurePath(name).as_posix(), []).extend(texts)
    return found.items()


def match_captions(image: str | Path, captions: Mapping[str, Sequence[str]]) -> list[str]:
    """The captions of an image, [] for none: by its path, the end of its path, or its file name.

    Else by the name that ends in `_00.jpg` in place of its last seven characters: in Market-1501 and
    CUHK-PEDES this is the drawn box of the frame from which the image was cut.
    """
    name = _name_of(image, captions)
    return [] if name is None else list(captions[name])


def _name_of(image: str | Path, captions: Mapping[str, Sequence[str]]) -> str | None:
    parts = PurePath(image).parts
    names = [PurePath(*parts[first:]).as_posix() for first in range(len(parts))]
    names.append(parts[-1][:-_BOX] + _DRAWN)
    return next((name for name in names if name in captions), None)


def describe_images(
    records: Sequence[ImageRecord], captions: Mapping[str, Sequence[str]], source: str
) -> dict[str, list[str]]:
    """The captions of the training images that have some, by key; logs how many these are.

    `source` names the file in messages. Raises ValueError where no image has a caption, and for a name that
    images of several identities have.
    """
    found: dict[str, list[str]] = {}
    owners: dict[str, ImageRecord] = {}
    blank = sum(not any(map(str.strip, texts)) for texts in captions.values())
    for record in records:
        name = _name_of(record.path, captions)
        texts = [] if name is None else [text for text in captions[name] if text.strip()]
        if name is None or not texts:
            continue
        owner = owners.setdefault(name, record)
        if owner.pid != record.pid:
            raise ValueError(
                f"{source}: {quoted(name)} is the name of images of two identities, {quoted(owner.path)} and "
                f"{quoted(record.path)}; allowed: as much of their paths as tells them apart"
            )
        found[record.key] = texts
    if not found:
        names = few([quoted(name) for name in captions]) or "none"
        raise ValueError(
            f"{source} names {len(captions)} images, {blank} of them without a caption, and describes none "
            f"of the {len(records)} training images; its names: {names}"
        )
    if blank:
        _logger.warning("%s: %d of %d images have no caption", source, blank, len(captions))
    _logger.info(
        "%s: %d of %d training images, of %d identities, have captions, %d in all",
        *(source, len(found), len(records)),
        len({record.pid for record in records if record.key in found}),
        sum(map(len, found.values())),
    )
    return found
