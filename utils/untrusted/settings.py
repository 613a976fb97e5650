"""Reads settings in YAML: plain values only, in memory in proportion to the text."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from utils.text import one_line

MAX_SETTINGS = 2**17  # bytes; the reader takes seconds for a megabyte
_MAX_VALUES = 10_000  # aliases of aliases stand for any number of them
_MAX_VALUE = 4096  # characters; the longest path


class Place(NamedTuple):
    """Where a value stands, from line 1, and how it is written there."""

    line: int
    written: str


class Settings(NamedTuple):
    """A mapping of keys to values, and the place of the value of each full key, such as 'A.B'."""

    tree: dict[str, Any]
    places: dict[str, Place]


class _Loader(yaml.SafeLoader):
    """YAML in which a date is text: no key takes one."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)


def parse_settings(text: str, where: str) -> Settings:
    """The mapping in a YAML text, empty for an empty one; `where` stands in the ValueError."""
    try:
        # The composed document has the lines, and both of two equal keys; the constructed one has neither.
        document = yaml.compose(text, Loader=_Loader)
        if _size(document, {}) > _MAX_VALUES:
            raise ValueError(f"it stands for more than {_MAX_VALUES:,} values")
        tree = _Loader("").construct_document(document) if document else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ValueError(
            f"{where}{line}: not valid YAML, {one_line(error.problem or error.context)}"
        ) from error
    except Exception as error:  # not UTF-8, a date that does not exist, nested too deeply
        reason = one_line(error) or type(error).__name__
        raise ValueError(f"{where}: not valid YAML, {reason}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{where}: holds a {type(tree).__name__}; allowed: a mapping of keys to values")
    return Settings(tree, dict(_places(document, "", where)))


def leaves(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a tree by full key, such as 'A.B'; an empty node counts as None."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = None if isinstance(value, Mapping) else value
    return found


def _size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """The number of values that a node stands for; one that contains itself has too many."""
    if not isinstance(node, yaml.CollectionNode):
        if node and len(node.value) > _MAX_VALUE:
            raise ValueError(f"a value of {len(node.value):,} characters; allowed: {_MAX_VALUE:,}")
        return 1
    if id(node) not in known:
        known[id(node)] = _MAX_VALUES + 1
        pairs = isinstance(node, yaml.MappingNode)
        known[id(node)] = 1 + sum(_size(value[1] if pairs else value, known) for value in node.value)
    return known[id(node)]


def _places(node: yaml.Node | None, prefix: str, where: str) -> Iterator[tuple[str, Place]]:
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for name, value in node.value:
        key, line = f"{prefix}{name.value}", name.start_mark.line + 1
        if key in lines:
            raise ValueError(f"{where}, line {line}: {key} stands already in line {lines[key]}")
        lines[key] = line
        yield key, Place(line, value.value if isinstance(value, yaml.ScalarNode) else "")
        yield from _places(value, f"{key}.", where)
