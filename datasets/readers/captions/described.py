"""Described images, and the data set made of them: captions cleaned and named, identities ranked."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.captions import MAX_WORDS, clean_caption, count_words
from datasets.records import CaptionDataset, CaptionRecord, ImageRecord, Trial
from utils.text import Tally, quoted, shortened

TRAIN = "train"
_SHOWN = 100  # characters of a path in a message
_CUT = f"captions of more than {MAX_WORDS} words, cut to these"
_UNEQUAL = "rows of captions with another number of back translations"
_UNTRANSLATED = "captions without back translation"
_REPEATED = "captions that repeat one of another row of their image, left out"
_BARE = {True: "images without caption, left out", False: "images without caption"}

_logger = logging.getLogger("transreid.datasets")


@dataclass(frozen=True)
class CaptionOptions:
    """Options of the readers of captions; each uses those that concern it.

    Args:
        need_train: read the training split; without it that split may be absent and `.train` is empty.
        eval_split: the split that is evaluated, "test" or "val".
        image_dir: folder of the images below that of the data sets (captions).
        annotation_dir: folder of prepared files that replace the data set's own; None: its own.
        csv: name of the CSV file (csv).
        for_check: keep what is refused or cut else: captions without words, as '', and words beyond the 77th.
    """

    need_train: bool = True
    eval_split: str = "test"
    image_dir: str = "imgs"
    annotation_dir: Path | None = None
    csv: str = "dataset.csv"
    for_check: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are read."""
        return (TRAIN, self.eval_split) if self.need_train else (self.eval_split,)


DEFAULTS = CaptionOptions()


@dataclass(frozen=True)
class Described:
    """A row of a data set: an image of a split, its captions and their back translations as written.

    `where` names file and row in messages. Without `in_gallery` the image is only what the captions describe.
    """

    image: ImageRecord
    split: str
    captions: Sequence[str]
    translations: Sequence[str]
    where: str
    in_gallery: bool = True


@dataclass
class _Image:
    """An image with its clean captions, each with its back translation or ''."""

    record: ImageRecord
    where: str
    in_gallery: bool = False
    captions: list[tuple[str, str]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)


def build(
    name: str, rows: Sequence[Described], source: Path, options: CaptionOptions, *, upright: bool = False
) -> CaptionDataset:
    """The data set of described images; splits that `options` do not ask for are left out.

    Several rows of an image in a split give it the captions of all. Training identities are ranked by their
    first caption. Logs what is left out and cut. Raises ValueError for an empty split, an image of two
    identities and a caption of which cleaning leaves nothing.
    """
    train: list[CaptionRecord] = []
    left_out: tuple[str, ...] = ()
    if options.need_train:
        images = _images(rows, TRAIN, source, options)
        train = _rank(_caption_records(images))
        left_out = tuple(image.record.path for image in images if not image.captions)
        _require(train, "captions", TRAIN, rows, source)
    split = options.eval_split
    images = _images(rows, split, source, options)
    queries, gallery = _caption_records(images), [image.record for image in images if image.in_gallery]
    _require(gallery, "gallery images", split, rows, source)
    _require(queries, "captions", split, rows, source)
    return CaptionDataset(name, train, [Trial(queries, gallery, "all")], upright, split, left_out)


def _images(rows: Sequence[Described], split: str, source: Path, options: CaptionOptions) -> list[_Image]:
    """The images of a split in the order of their first rows."""
    images: dict[str, _Image] = {}
    notes = Tally()
    for row in rows:
        if row.split != split:
            continue
        # One file may be written in two ways, i/x.png and i/../i/x.png.
        image = images.setdefault(os.path.normpath(row.image.path), _Image(row.image, row.where))
        if row.image.pid != image.record.pid:
            raise ValueError(
                f"{row.where}: {shortened(row.image.path, _SHOWN)} is of identity "
                f"{quoted(row.image.texts.identity)}, but of {quoted(image.record.texts.identity)} in "
                f"{image.where}; allowed: one identity"
            )
        image.in_gallery |= row.in_gallery
        captions = list(_clean(row, notes, for_check=options.for_check))
        new = [pair for pair in captions if pair[0] not in image.known]
        if len(new) < len(captions):
            notes.add(_REPEATED, row.where, len(captions) - len(new))
        image.captions += new
        image.known.update(caption for caption, _ in captions)
    for image in images.values():
        if not image.captions:
            notes.add(_BARE[split == TRAIN], image.record.path)
    if notes:
        _logger.info("%s: %s split: %s", source, split, notes)
    return list(images.values())


def _clean(row: Described, notes: Tally, *, for_check: bool) -> Iterator[tuple[str, str]]:
    """The clean captions of a row with their back translations; `notes` counts what is cut and missing."""
    translations = [*row.translations, *[""] * len(row.captions)][: len(row.captions)]
    if row.translations and len(row.translations) != len(row.captions):
        notes.add(_UNEQUAL, row.where)
    for number, (caption, translation) in enumerate(zip(row.captions, translations, strict=True), start=1):
        words = count_words(caption)
        if not words and not for_check:
            raise ValueError(
                f"{row.where}: caption {number} of {shortened(row.image.path, _SHOWN)} is {quoted(caption)}, "
                "of which cleaning leaves nothing; allowed: text with words"
            )
        if words > MAX_WORDS:
            notes.add(_CUT, row.where)
        is_translated = count_words(translation) > 0
        if row.split == TRAIN and not is_translated:
            notes.add(_UNTRANSLATED, row.where)
        clean = clean_caption(caption, words if for_check else MAX_WORDS) if words else ""
        yield clean, clean_caption(translation) if is_translated else ""


def _caption_records(images: Iterable[_Image]) -> list[CaptionRecord]:
    return [
        CaptionRecord(
            image.record.path,
            image.record.pid,
            caption,
            translation,
            f"{image.record.path}#{number}",
            image.record.texts,
        )
        for image in images
        for number, (caption, translation) in enumerate(image.captions)
    ]


def _rank(records: Sequence[CaptionRecord]) -> list[CaptionRecord]:
    """The records with pids replaced by their ranks 0..C-1 by first appearance."""
    ranks: dict[int, int] = {}
    return [record._replace(pid=ranks.setdefault(record.pid, len(ranks))) for record in records]


def _require(found: Sequence[object], what: str, split: str, rows: Sequence[Described], source: Path) -> None:
    if not found:
        key = "" if split == TRAIN else " (`eval_split`)"
        splits = ", ".join(sorted({row.split for row in rows})) or "none"
        raise ValueError(
            f"{source}: 0 {what} in the {split} split{key}, at least 1 is needed; splits there: {splits}"
        )
