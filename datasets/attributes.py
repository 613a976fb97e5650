"""Attributes of people and the sentences that describe them, for zero-shot re-identification.

Annotations: Lin et al., Pattern Recognition 95, 2019. Sentences: Multimodal-ReID (ISVC 2024), word for word,
odd English included, because features of other words are other features.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.text import few, printable, quoted
from utils.untrusted.matlab import read_matlab
from utils.untrusted.table import check_cell, read_table

_logger = logging.getLogger("transreid.datasets")

# Words of the values 1, 2, … of each field.
_WORDS = {
    "age": ("young", "teenager", "adult", "old"),
    "gender": ("male", "female"),
    "hair": ("short", "long"),
    "up": ("long", "short"),
    "top": ("short", "long"),
    "down": ("long", "short"),
    "clothes": ("dress", "pants"),
    "shoes": ("dark", "light"),
    **dict.fromkeys(("boots", "hat", "backpack", "bag", "handbag"), ("no", "yes")),
}
_UP, _DOWN = "up_colour", "down_colour"
_CARRIED = ("backpack", "bag", "handbag")
COLUMNS = (*_WORDS, _UP, _DOWN)  # of a user's own table
_IDENTITY, _SENTENCE = "identity", "sentence"
_OTHER = "other"  # the colour of people with none of the file's colours
_LABELS = "image_index"  # the field of the identities


class _Published(NamedTuple):
    """Fields of a published file: of all but colours, and the colours in their order."""

    fields: tuple[str, ...]
    up: tuple[str, ...]
    down: tuple[str, ...]


_MARKET, _DUKE = "market_attribute", "duke_attribute"  # the variable that a published file holds
_PUBLISHED = {
    _MARKET: _Published(
        ("age", "gender", "hair", "up", "down", "clothes", "hat", *_CARRIED),
        ("black", "white", "red", "purple", "yellow", "gray", "blue", "green"),
        ("black", "white", "pink", "purple", "yellow", "gray", "blue", "green", "brown"),
    ),
    _DUKE: _Published(
        ("gender", "top", "boots", "shoes", "hat", *_CARRIED),
        ("black", "white", "red", "purple", "gray", "blue", "green", "brown"),
        ("black", "white", "red", "gray", "blue", "green", "brown"),
    ),
}

# Frames and scenes of the augmented sentences.
_FRAMES = (
    "itap of a {}",
    "a bad photo of the {}",
    "a origami {}",
    "a photo of the large {}",
    "a {} in a video game",
    "art of the {}",
    "a photo of the small {}",
)
_SCENES = ("on my left or right side", "walking", "rushing", "in the distance")


class Person(NamedTuple):
    """A person: identity as written, and words of `COLUMNS` that are known, or a sentence in their place."""

    identity: str
    traits: Mapping[str, str] = {}
    sentence: str = ""


def read_attributes(path: str | Path, split: str = "test") -> list[Person]:
    """People in a published file of attributes (.mat) or in a user's own table (.csv, of one split).

    Raises FileNotFoundError or OSError, or ValueError that names the file.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        people = read_own_attributes(path)
    elif suffix == ".mat":
        people = _read_published(path, split, tuple(_PUBLISHED))
    else:
        raise ValueError(f"file of attributes {printable(path)}; allowed: files that end in .mat or .csv")
    _logger.info("%s: attributes of %d people", path, len(people))
    return people


def read_market_attributes(path: str | Path, split: str = "test") -> list[Person]:
    """People of a split, 'test' or 'train', in `market_attribute.mat`, in the file's order.

    Raises FileNotFoundError or OSError, or ValueError that names the file and a field that is missing or has
    a value without meaning.
    """
    return _read_published(path, split, (_MARKET,))


def read_duke_attributes(path: str | Path, split: str = "test") -> list[Person]:
    """As `read_market_attributes`, of `duke_attribute.mat`, which has neither age, hair nor clothes."""
    return _read_published(path, split, (_DUKE,))


def read_own_attributes(path: str | Path) -> list[Person]:
    """People in a CSV file with the column identity, and sentence or some of `COLUMNS`, one row each.

    Colours are any words, other cells the words that the sentences have, 'yes' or 'no' for what is worn or
    carried; an empty cell is unknown. Raises FileNotFoundError or OSError, or ValueError (file and line) for
    another value, an identity that comes twice, and a table without people, attributes or sentences.
    """
    people: dict[str, Person] = {}
    for cells, where in read_table(Path(path), (_IDENTITY,), (*COLUMNS, _SENTENCE)):
        columns = [column for column in COLUMNS if column in cells]
        if (_SENTENCE in cells) == bool(columns):
            found = f"{_SENTENCE} and {few(columns)}" if columns else "neither"
            raise ValueError(
                f"{where}: the columns are {found}; allowed: {_SENTENCE}, or some of {', '.join(COLUMNS)}"
            )
        identity = cells[_IDENTITY]
        check_cell(_IDENTITY, identity, where)
        if identity in people:
            raise ValueError(f"{where}: identity {quoted(identity)} comes twice; allowed: one row each")
        check_cell(_SENTENCE, cells.get(_SENTENCE), where)
        for column in columns:
            _check_word(column, cells[column], where)
        traits = {column: cells[column] for column in columns if cells[column]}
        people[identity] = Person(identity, traits, cells.get(_SENTENCE, ""))
    if not people:
        raise ValueError(f"{printable(path)}: 0 people, at least 1 is needed")
    return list(people.values())


def _check_word(column: str, cell: str, where: str) -> None:
    check_cell(column, cell, where, may_be_empty=True)
    if cell and cell not in _WORDS.get(column, (cell,)):
        allowed = ", ".join(_WORDS[column])
        raise ValueError(f"{where}: {column} is {quoted(cell)}; allowed: {allowed}, or an empty cell")


def _read_published(path: str | Path, split: str, kinds: Sequence[str]) -> list[Person]:
    """People in a file that holds one of the variables `kinds`."""
    variables = read_matlab(path)
    kind = next((name for name in kinds if name in variables), None)
    if kind is None:
        held = few(list(map(printable, variables))) or "nothing"
        raise ValueError(f"{path} holds {held}; allowed: a file with {' or '.join(kinds)}")
    where = f"{path}: {kind}"
    record = _field(variables[kind], split, where)
    where = f"{where}.{split}"
    form = _PUBLISHED[kind]
    identities = _field(record, _LABELS, where)
    if not (isinstance(identities, list) and all(isinstance(text, str) for text in identities)):
        raise ValueError(f"{where}.{_LABELS} are {type(identities).__name__}; allowed: cells of text")
    if not identities:
        raise ValueError(f"{where}: 0 people, at least 1 is needed")

    def words(field: str, allowed: Sequence[str]) -> list[str]:
        values = _field(record, field, where)
        if not isinstance(values, np.ndarray) or len(values) != len(identities):
            raise ValueError(f"{where}.{field} has not one number for each of {len(identities)} people")
        unknown = values[~np.isin(values, np.arange(1, len(allowed) + 1))]
        if len(unknown):
            raise ValueError(f"{where}.{field} has the value {unknown[0]}; allowed: 1 to {len(allowed)}")
        return [allowed[int(value) - 1] for value in values]

    def colours(part: str, names: Sequence[str]) -> list[str]:
        chosen = {name: words(f"{part}{name}", ("", name)) for name in names}
        return [next(filter(None, row), _OTHER) for row in zip(*chosen.values(), strict=True)]

    columns = {field: words(field, _WORDS[field]) for field in form.fields}
    columns |= {_UP: colours("up", form.up), _DOWN: colours("down", form.down)}
    return [
        Person(identity, dict(zip(columns, row, strict=True)))
        for identity, *row in zip(identities, *columns.values(), strict=True)
    ]


def _field(record: Any, name: str, where: str) -> Any:
    """A field of a struct. Raises ValueError for a struct without it, and for another kind of value."""
    if not isinstance(record, dict):
        raise ValueError(f"{where} is no struct; allowed: one in the published form")
    if name not in record:
        raise ValueError(
            f"{where} has no field {printable(name)}; it has {few(list(map(printable, record)), 30)}"
        )
    return record[name]


def templates(person: Person, number: int, augmented: bool = False) -> list[str]:
    """The sentences of a person, who is the `number`-th of the file from 0: one, or 56 if `augmented`.

    What is not known is left out. Raises ValueError for augmented sentences of a person without attributes.
    """
    if person.sentence:
        if augmented:
            raise ValueError(
                f"identity {quoted(person.identity)} has a sentence of its own; augmented sentences need "
                "attributes"
            )
        return [person.sentence]
    known = person.traits
    who = " ".join(word for word in (known.get("age"), known.get("gender"), "person", f"no.{number}") if word)
    worn = [clause for clause in (_hair(known), _upper(known), _lower(known), _feet(known)) if clause]
    carried = [f"a {thing}" for thing in _CARRIED if known.get(thing) == "yes"]
    if not augmented:
        hat = ["wearing a hat"] if known.get("hat") == "yes" else []
        load = [f"carrying {', '.join(carried)}"] if carried else []
        return [f"a {_with(who, worn)}, {', '.join(hat + load)}."]
    hat = {"yes": ["wearing a hat"], "no": ["wearing nothing on head"]}.get(known.get("hat", ""), [])
    load = [f"carrying {_list(carried)}"] if any(thing in known for thing in _CARRIED) else []
    clauses = [
        ", ".join([_with(f"{who} {scene}", worn), *order])
        for order in (hat + load, load + hat)
        for scene in _SCENES
    ]
    return [frame.format(clause) for frame in _FRAMES for clause in clauses]


def _with(who: str, worn: Sequence[str]) -> str:
    return f"{who} with {', '.join(worn)}" if worn else who


def _hair(known: Mapping[str, str]) -> str:
    return f"{known['hair']} hair" if "hair" in known else ""


def _upper(known: Mapping[str, str]) -> str:
    parts = [f"{known[field]} {noun}" for field, noun in (("up", "sleeve"), ("top", "top")) if field in known]
    colour = known.get(_UP)
    if colour:
        parts[:1] = [f"{colour} {parts[0] if parts else 'top'}"]
    return ", ".join(parts)


def _lower(known: Mapping[str, str]) -> str:
    words = [known[field] for field in (_DOWN, "down") if field in known]
    if "clothes" in known:
        words.append(known["clothes"])
    elif words:
        words.append("bottoms")
    return " ".join(words)


def _feet(known: Mapping[str, str]) -> str:
    boots = known.get("boots") == "yes"
    if not (boots or "shoes" in known):
        return ""
    return " ".join(filter(None, [known.get("shoes"), "boots" if boots else "shoes"]))


def _list(things: Sequence[str]) -> str:
    """'nothing', 'x', 'x and y' or 'x, y and z'."""
    if len(things) < 2:
        return "".join(things) or "nothing"
    return f"{', '.join(things[:-1])} and {things[-1]}"
