"""Faults in captions: without words, too long, or the same for several identities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from datasets.captions import MAX_WORDS
from datasets.records import CaptionDataset, CaptionRecord
from utils.languages import column_of
from utils.text import quoted

_AT_ONCE = 1000  # captions of which lengths are asked for


@dataclass(frozen=True)
class CaptionFindings:
    """One line of text for each occurrence of a fault; `ERRORS` and `NOTES` have the titles of the faults.

    Notes do not prevent a run.
    """

    ERRORS: ClassVar[dict[str, str]] = {"wordless": "captions of which cleaning leaves nothing"}
    NOTES: ClassVar[dict[str, str]] = {
        "without_caption": "images without caption",
        "cut": f"captions that are cut, at {MAX_WORDS} words",
        "shared": "captions of several identities",
    }
    wordless: list[str]
    without_caption: list[str]
    cut: list[str]
    shared: list[str]


def audit_captions(
    dataset: CaptionDataset, are_cut: Callable[[Sequence[str]], Sequence[bool]]
) -> CaptionFindings:
    """Look at the captions of a data set that was read for a check, which are whole, or '' without words.

    `are_cut` says of captions whether they are longer than a model reads, which counts as cut, too. Training
    and the tests, whose identities have numbers of their own, are looked at one after the other; captions of
    most identities come first. An image that lacks a language of others of its split has no caption there.
    """
    tested = dataset.test_captions()
    records = [*dataset.train, *tested]
    described = {record.path for record in tested}
    images = [record.path for record in dataset.test_records() if record.path not in described]
    images += [*_without_language(dataset.train), *_without_language(tested)]
    cut: list[str] = []
    for start in range(0, len(records), _AT_ONCE):
        some = records[start : start + _AT_ONCE]
        flags = are_cut([record.caption for record in some])
        cut += [
            f"{record.key}: {quoted(record.caption)}"
            for record, flag in zip(some, flags, strict=True)
            if flag or len(record.caption.split()) > MAX_WORDS
        ]
    return CaptionFindings(
        wordless=[record.key for record in records if not record.caption],
        without_caption=[*dataset.left_out, *images],
        cut=cut,
        shared=[*_shared(dataset.train), *_shared(tested)],
    )


def _without_language(records: Sequence[CaptionRecord]) -> list[str]:
    """Images with captions, but not in each language in which others have some."""
    have = {(record.path, record.language) for record in records}
    languages = dict.fromkeys(record.language for record in records)
    return [
        f"{path} (no {column_of(language)})"
        for path in dict.fromkeys(record.path for record in records)
        for language in languages
        if (path, language) not in have
    ]


def _shared(records: Sequence[CaptionRecord]) -> list[str]:
    groups: dict[str, dict[int, CaptionRecord]] = {}  # by caption and pid, the first record of each
    for record in records:
        if record.caption:
            groups.setdefault(record.caption, {}).setdefault(record.pid, record)
    several = [list(group.values()) for group in groups.values() if len(group) > 1]
    several.sort(key=len, reverse=True)
    return [
        f"{quoted(group[0].caption)} of {len(group)} identities: "
        + ", ".join(f"{record.key} (identity {record.texts.identity or record.pid})" for record in group[:2])
        + (", …" if len(group) > 2 else "")
        for group in several
    ]
