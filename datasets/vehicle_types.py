"""Noun phrases of the training vehicles of VeRi-776 (Liu et al., ECCV 2016), from its labels of types."""

import logging
from collections import Counter
from pathlib import Path

from datasets.readers.parsing import is_number
from utils.text import few, quoted
from utils.untrusted.markup import Element, read_elements
from utils.untrusted.plain import MEBIBYTE, read_plain_lines

_PHRASE = "{}, a type of vehicle"
_ITEM, _IDENTITY, _IMAGE, _TYPE = "Item", "vehicleID", "imageName", "typeID"
_NO_TYPE = 0  # three vehicles of the first release have it, and no list names it
_MAX_LABELS = 16 * MEBIBYTE  # train_label.xml has 4

_logger = logging.getLogger("transreid.datasets")


def read_type_phrases(labels: Path, types: Path) -> dict[str, str]:
    """The phrase '{type}, a type of vehicle' of each identity, which has four digits, in ascending order.

    `labels` is train_label.xml, elements Item with imageName, vehicleID (or the number before '_' in
    imageName) and typeID; `types` is list_type.txt, lines of number and name. Of several types of an identity
    the most frequent counts, of equals the first in the file; identities without a type (none or 0 in all
    their items) are left out; the log counts both. Raises FileNotFoundError or OSError, or ValueError with
    file and line for another form, a type that is not listed, and where no identity has a type.
    """
    names = _read_names(types)
    counts: dict[int, Counter[int]] = {}
    for item in read_elements(labels, _ITEM, _MAX_LABELS):
        where = f"{labels}:{item.line}"
        of_identity = counts.setdefault(_identity(item, where), Counter())
        number = _type(item, names, where)
        if number != _NO_TYPE:
            of_identity[number] += 1
    most = {identity: found.most_common(1)[0][0] for identity, found in sorted(counts.items()) if found}
    if not most:
        raise ValueError(
            f"{labels}: {len(counts)} identities in elements {_ITEM}, none with a {_TYPE}; needed: at least 1"
        )
    _logger.info(
        "%s: %d identities with a type, %d of them with several, of which the most frequent counts; "
        "%d without a type are left out",
        *(labels, len(most), sum(len(found) > 1 for found in counts.values()), len(counts) - len(most)),
    )
    return {f"{identity:04}": _PHRASE.format(names[number]) for identity, number in most.items()}


def _read_names(file: Path) -> dict[int, str]:
    """Number → the whole name of a type."""
    names: dict[int, str] = {}
    for line_number, line in enumerate(read_plain_lines(file), start=1):
        if not line.strip():
            continue
        number, *words = line.split()
        if not (words and is_number(number)) or int(number) in names:
            raise ValueError(
                f"{file}:{line_number}: the line is {quoted(line)}; allowed: `number name`, each number once"
            )
        names[int(number)] = " ".join(words)
    if not names:
        raise ValueError(f"{file}: 0 types, at least 1 is needed")
    return names


def _identity(item: Element, where: str) -> int:
    image = item.attributes.get(_IMAGE, "")
    identity = item.attributes.get(_IDENTITY) or image.partition("_")[0]
    if not is_number(identity):
        raise ValueError(
            f"{where}: {_IDENTITY} is {quoted(item.attributes.get(_IDENTITY, ''))} and {_IMAGE} "
            f"{quoted(image)}; allowed: a number, or the name of an image that begins with one and '_'"
        )
    return int(identity)


def _type(item: Element, names: dict[int, str], where: str) -> int:
    written = item.attributes.get(_TYPE) or str(_NO_TYPE)
    if not is_number(written) or int(written) not in {*names, _NO_TYPE}:
        allowed = few(list(map(str, names)), 20)
        raise ValueError(
            f"{where}: {_TYPE} is {quoted(written)}; allowed: {allowed}, or {_NO_TYPE} for no type"
        )
    return int(written)
