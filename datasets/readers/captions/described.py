"""Described images, and the data set made of them: captions cleaned and named, identities ranked."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.captions import MAX_WORDS, clean_caption, count_words
from datasets.records import CaptionDataset, CaptionRecord, EmptySplit, ImageRecord, Trial
from utils.languages import column_of, key_of
from utils.notes import without
from utils.text import Tally, few, quoted, shortened

TRAIN = "train"
_SHOWN = 100  # characters of a path in a message
_NAMED = 10  # languages in a message
_CUT = f"captions of more than {MAX_WORDS} words, cut to these"
_UNEQUAL = "rows of captions with another number of back translations"
_UNTRANSLATED = "captions without back translation"
_LEFT_OUT = ", left out"
_REPEATED = f"captions that repeat one of another row of their image{_LEFT_OUT}"
_BARE = {True: f"images without caption{_LEFT_OUT}", False: "images without caption"}

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
            Captions of all languages that are there are read, whichever are asked for.
        languages: of the captions of training, '' for those whose language is not said.
        test_languages: of the captions of the split that is evaluated; each is a trial.
    """

    need_train: bool = True
    eval_split: str = "test"
    image_dir: str = "imgs"
    annotation_dir: Path | None = None
    csv: str = "dataset.csv"
    for_check: bool = False
    languages: tuple[str, ...] = ("",)
    test_languages: tuple[str, ...] = ("",)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are read."""
        return (TRAIN, self.eval_split) if self.need_train else (self.eval_split,)

    def languages_of(self, *splits: str) -> tuple[str, ...]:
        """The languages that are asked for in one of these splits."""
        asked = (self.languages if split == TRAIN else self.test_languages for split in splits)
        return tuple(dict.fromkeys(language for languages in asked for language in languages))


DEFAULTS = CaptionOptions()


@dataclass(frozen=True)
class Described:
    """A row of a data set: an image of a split, its captions and their back translations by language.

    They are as written, in all languages that are there. `where` names file and row in messages. Without
    `in_gallery` the image is only what the captions describe.
    """

    image: ImageRecord
    split: str
    captions: Mapping[str, Sequence[str]]
    translations: Mapping[str, Sequence[str]]
    where: str
    in_gallery: bool = True


@dataclass
class _Image:
    """An image with its clean captions by language, each with its back translation or ''."""

    record: ImageRecord
    where: str
    in_gallery: bool = False
    captions: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    known: set[tuple[str, str]] = field(default_factory=set)


def build(
    name: str, rows: Sequence[Described], source: Path, options: CaptionOptions, *, upright: bool = False
) -> CaptionDataset:
    """The data set of described images; splits that `options` do not ask for are left out.

    Several rows of an image in a split give it the captions of all. Training identities are ranked by their
    first caption; each tested language is a trial, with a name if there are several. Logs what is left out
    and cut. Raises ValueError for an empty split, a language without captions, an image of two identities and
    a caption of which cleaning leaves nothing.
    """
    train: list[CaptionRecord] = []
    left_out: tuple[str, ...] = ()
    if options.need_train:
        languages = _languages(rows, TRAIN, source, options)
        images = _images(rows, TRAIN, source, languages, for_check=options.for_check)
        train = _rank(_caption_records(images, languages))
        left_out = tuple(image.record.path for image in images if not image.captions)
        _require(train, "captions", TRAIN, rows, source)
    split = options.eval_split
    languages = _languages(rows, split, source, options)
    images = _images(rows, split, source, languages, for_check=options.for_check)
    gallery = [image.record for image in images if image.in_gallery]
    _require(gallery, "gallery images", split, rows, source)
    trials = []
    for language in languages:
        queries = _caption_records(images, [language])
        _require(queries, "captions", split, rows, source)
        trials.append(Trial(queries, gallery, "all"))
    names = tuple(map(column_of, languages)) if len(languages) > 1 else ()
    return CaptionDataset(name, train, trials, upright, split, left_out, names)


def _languages(
    rows: Sequence[Described], split: str, source: Path, options: CaptionOptions
) -> tuple[str, ...]:
    """The languages of which a split's captions are read; logs how many captions are of others."""
    asked = options.languages_of(split)
    counts: Counter[str] = Counter()
    for row in rows:
        if row.split == split:
            counts.update({language: len(texts) for language, texts in row.captions.items() if texts})
    others = sorted(counts.keys() - {*asked})
    if options.for_check:
        return (*(language for language in asked if counts[language]), *others) or asked
    missing = [language for language in asked if not counts[language]]
    if missing and counts:
        there = few([f"{column_of(each)} ({counts[each]})" for each in sorted(counts)], _NAMED)
        raise ValueError(
            f"{source}: no {column_of(missing[0])} in the {split} split; captions there: {there}"
        )
    if others:
        left = few([f"{counts[each]} {column_of(each)}" for each in others], _NAMED)
        _logger.info("%s: %s split: captions that are not read, as not asked for: %s", source, split, left)
    return asked


def _images(
    rows: Sequence[Described], split: str, source: Path, languages: Sequence[str], *, for_check: bool
) -> list[_Image]:
    """The images of a split in the order of their first rows, with captions of these languages."""
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
        for language in languages:
            captions = list(_clean(row, language, notes, for_check=for_check))
            new = [pair for pair in captions if (language, pair[0]) not in image.known]
            if len(new) < len(captions):
                notes.add(_REPEATED, row.where, len(captions) - len(new))
            if new:
                image.captions[language] += new
            image.known.update((language, caption) for caption, _ in captions)
    for image in images.values():
        for kind in _lacking(image, split, languages):
            notes.add(kind, image.record.path)
    if notes:
        lost = without({kind: n for kind, n in notes.counts().items() if kind.endswith(_LEFT_OUT)})
        _logger.info("%s: %s split: %s", source, split, notes, extra=lost)
    return list(images.values())


def _lacking(image: _Image, split: str, languages: Sequence[str]) -> list[str]:
    if not image.captions:
        return [_BARE[split == TRAIN]]
    return [f"images without {column_of(each)}" for each in languages if each not in image.captions]


def _clean(row: Described, language: str, notes: Tally, *, for_check: bool) -> Iterator[tuple[str, str]]:
    """A row's clean captions of a language with back translations; `notes` counts what is cut and missing."""
    captions, found = row.captions.get(language, ()), row.translations.get(language, ())
    translations = [*found, *[""] * len(captions)][: len(captions)]
    if found and len(found) != len(captions):
        notes.add(_UNEQUAL, row.where)
    for number, (caption, translation) in enumerate(zip(captions, translations, strict=True), start=1):
        words = count_words(caption)
        if not words and not for_check:
            what = f"{column_of(language)} {number} of {shortened(row.image.path, _SHOWN)}"
            raise ValueError(
                f"{row.where}: {what} is {quoted(caption)}, of which cleaning leaves nothing; "
                "allowed: text with words"
            )
        if words > MAX_WORDS:
            notes.add(_CUT, row.where)
        is_translated = count_words(translation) > 0
        if row.split == TRAIN and not is_translated:
            notes.add(_UNTRANSLATED, row.where)
        clean = clean_caption(caption, words if for_check else MAX_WORDS) if words else ""
        yield clean, clean_caption(translation) if is_translated else ""


def _caption_records(images: Iterable[_Image], languages: Sequence[str]) -> list[CaptionRecord]:
    return [
        CaptionRecord(
            image.record.path,
            image.record.pid,
            caption,
            translation,
            key_of(image.record.path, language, number),
            image.record.texts,
            language,
        )
        for image in images
        for language in languages
        for number, (caption, translation) in enumerate(image.captions.get(language, ()))
    ]


def _rank(records: Sequence[CaptionRecord]) -> list[CaptionRecord]:
    """The records with pids replaced by their ranks 0..C-1 by first appearance."""
    ranks: dict[int, int] = {}
    return [record._replace(pid=ranks.setdefault(record.pid, len(ranks))) for record in records]


def _require(found: Sequence[object], what: str, split: str, rows: Sequence[Described], source: Path) -> None:
    if not found:
        key = "" if split == TRAIN else " (`eval_split`)"
        splits = ", ".join(sorted({row.split for row in rows})) or "none"
        raise EmptySplit(
            f"{source}: 0 {what} in the {split} split{key}, at least 1 is needed; splits there: {splits}"
        )
