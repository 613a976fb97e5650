"""Noun phrases of identities for the prompts, from a JSON file."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from datasets.records import ImageRecord
from utils.text import few, printable
from utils.untrusted.plain import read_plain_text

_logger = logging.getLogger("transreid.datasets")


def read_subjects(path: str | Path, records: Sequence[ImageRecord], noun: str) -> list[str]:
    """The noun phrase of each training identity, by label; identities that the file lacks have the `noun`.

    The file is an object of identity, as the data set writes it (leading zeros may be missing), to phrase.
    The log counts identities without a phrase, and phrases of none. Raises ValueError for another form or
    where no identity has a phrase, OSError for a file that cannot be read.
    """
    try:
        content = json.loads(read_plain_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON text: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} is no JSON object; allowed: {{"identity": "noun phrase", …}}')
    for identity, phrase in content.items():
        if not isinstance(phrase, str) or not phrase.split():
            raise ValueError(f"{path}: {identity!r} has {phrase!r}; allowed: a noun phrase")
    phrases = {_plain(identity): phrase for identity, phrase in content.items()}
    identities = {record.pid: _plain(record.texts.identity) for record in records}
    found = set(identities.values()) & phrases.keys()
    if not found:
        raise ValueError(
            f"{path} has no phrase for an identity of the training split; its identities are "
            f"{few([printable(identity) for identity in content])}"
        )
    _logger.info(
        "%s: %d of %d identities have a phrase, the others %r; %d phrases are of none",
        *(path, len(found), len(identities), noun, len(phrases) - len(found)),
    )
    return [phrases.get(identities[pid], noun) for pid in sorted(identities)]


def _plain(identity: str) -> str:
    return identity.lstrip("0") or "0"
