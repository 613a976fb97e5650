"""Noun phrases of identities for the prompts, from a JSON file."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict

from datasets.records import ImageRecord
from utils.text import few, printable, quoted
from utils.untrusted.forms import Form, parse_json
from utils.untrusted.plain import read_plain_text

_logger = logging.getLogger("transreid.datasets")


def _with_words(phrase: str) -> str:
    if not phrase.split():
        raise ValueError("Input should be a noun phrase")
    return phrase


class _Phrases(Form):
    """A JSON object of identity and noun phrase."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[str, AfterValidator(_with_words)]]


def read_subjects(path: str | Path, records: Sequence[ImageRecord], noun: str) -> list[str]:
    """The noun phrase of each training identity, by label; identities that the file lacks have the `noun`.

    The file is an object of identity, as the data set writes it, to phrase; a number may have other leading
    zeros where only one identity and one phrase have it. The log counts identities without a phrase, and
    phrases without an identity. Raises ValueError for another form, for several of one number, and where no
    identity has a phrase, OSError for a file that cannot be read.
    """
    phrases = parse_json(read_plain_text(path), _Phrases, str(path)).model_extra or {}
    identities = {record.pid: record.texts.identity for record in records}
    found = _match(path, dict.fromkeys(identities.values()), phrases)
    if not found:
        raise ValueError(
            f"{path} has no phrase for an identity of the training split; its identities are "
            f"{few([printable(identity) for identity in phrases])}"
        )
    _logger.info(
        "%s: %d of %d identities have a phrase, the others %r; %d phrases are of none",
        *(path, len(found), len(identities), noun, len(phrases) - len(found)),
    )
    names = (found.get(identities[pid]) for pid in sorted(identities))
    return [noun if name is None else phrases[name] for name in names]


def _match(path: str | Path, identities: Collection[str], named: Collection[str]) -> dict[str, str]:
    """Identities with their names in the file: the same text, or else the only name of the same number."""
    found = {text: text for text in identities if text in named}
    numbers: dict[str, tuple[list[str], list[str]]] = {}
    for side, texts in enumerate((identities, named)):
        for text in texts:
            if text not in found and text.isascii() and text.isdigit():
                numbers.setdefault(text.lstrip("0"), ([], []))[side].append(text)
    for mine, theirs in numbers.values():
        if len(mine) > 1 <= len(theirs) or len(theirs) > 1 <= len(mine):
            names, wanted = (few([quoted(text) for text in sorted(texts)]) for texts in (theirs, mine))
            raise ValueError(
                f"{path} has {names} for the training identities {wanted}; allowed: identities as the data "
                "set writes them"
            )
        found |= dict(zip(mine, theirs, strict=False))
    return found
