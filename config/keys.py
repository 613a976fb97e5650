"""A key as it is declared: default, meaning, allowed values. The trees follow from tables of keys."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from yacs.config import CfgNode

_TABLE = "__key_table__"  # the attribute by which a tree and its copies know their keys


@dataclass(frozen=True)
class Rule:
    """The allowed values, in words and as a test."""

    allowed: str
    holds: Callable[[Any], bool]

    def require(self, key: str, value: object) -> None:
        """Raises ValueError with the key, the value and the allowed values."""
        if not self.holds(value):
            raise ValueError(f"{key} is {value!r}; allowed: {self.allowed}")


def words(*allowed: object) -> Rule:
    """The rule of a key that takes one of a few values."""
    return Rule(", ".join(map(repr, allowed)), lambda value: value in allowed)


ONE_OR_MORE = Rule("1 or more", lambda value: value >= 1)
ZERO_OR_MORE = Rule("0 or more", lambda value: value >= 0)
POSITIVE = Rule("above 0", lambda value: value > 0)
POSITIVE_NUMBERS = Rule("positive numbers", lambda values: all(value > 0 for value in values))
FRACTION = Rule("0 to 1", lambda value: 0 <= value <= 1)


@dataclass(frozen=True)
class Key:
    """One key of the configuration, and the only place that says anything about it."""

    default: Any
    comment: str
    rule: Rule | None = None
    needs: tuple[str, Rule] | None = None
    """A key of the same node, or several by full name with ' or ' between them, and the values of it with
    which this key has an effect."""
    unused: str = ""
    """Why nothing reads the key, which is kept so that former files load."""
    fixed: bool = False
    """A resumed run must have the value with which it began."""
    any_length: bool = False
    """A list may have another length than the default."""
    common: bool = False
    """Listed by `--help`."""

    def needed(self, name: str) -> list[str]:
        """The keys in `needs` by full name, for this key's own full `name`."""
        others = self.needs[0].split(" or ") if self.needs else []
        return [other if "." in other else f"{name.rpartition('.')[0]}.{other}" for other in others]


@dataclass(frozen=True)
class Foreign:
    """A key of files that were written for the published code of a method, and its meaning here.

    Its value goes to each of `keys`; a key with several meanings has several rows. What no row translates has
    no effect, and the log says so with the reason.
    """

    name: str
    keys: tuple[str, ...] = ()
    convert: Callable[[Any], Any] = lambda value: value
    """From the value, of the type of our keys, to theirs."""
    also: Mapping[str, Any] = field(default_factory=dict)
    """Further settings that come with it."""
    rule: Rule | None = None
    """The values that it may have, where our keys do not say so."""
    needs: tuple[str, Rule] | None = None
    """Another key of the file and the values of it with which this row holds."""
    otherwise: Mapping[str, Any] = field(default_factory=dict)
    """The settings where the other key has another value."""
    unused: str = ""
    """Why it has no effect."""
    placeholder: str = ""
    """The text in the published file that stands for a value."""


Keys = Mapping[str, Key]
Check = Callable[[CfgNode], None]


@dataclass(frozen=True)
class KeyTable:
    """All keys of a method by full name, the programs that read them, and the checks across keys.

    A check takes a configuration and raises ValueError; those in `training_checks` concern training only.
    `published` are keys of other files that the programs take, `examples` the command lines of their help.
    """

    programs: tuple[str, ...]
    keys: Keys
    checks: tuple[Check, ...] = ()
    training_checks: tuple[Check, ...] = ()
    published: tuple[Foreign, ...] = ()
    examples: str = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> "KeyTable":
        """Copies of a tree share the table, which never changes."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles of a tree refer to the table, which has functions."""
        return _find_table, (self.programs,)

    def tree(self) -> CfgNode:
        """The default values, in nested nodes."""
        root = CfgNode()
        for name, key in self.keys.items():
            *groups, last = name.split(".")
            node = root
            for group in groups:
                node = node.setdefault(group, CfgNode())
            node[last] = copy.deepcopy(key.default)
        root.__dict__[_TABLE] = self
        return root


def _find_table(programs: tuple[str, ...]) -> KeyTable:
    from config import TABLES

    return next(table for table in TABLES if table.programs == programs)


def table_of(cfg: CfgNode) -> KeyTable:
    """The keys of a tree, of its copies and of configurations that were loaded into it."""
    return cfg.__dict__[_TABLE]


def under(group: str, keys: Keys) -> dict[str, Key]:
    """The keys with `group.` before their names."""
    return {f"{group}.{name}": key for name, key in keys.items()}


def with_defaults(keys: Keys, defaults: Mapping[str, Any]) -> dict[str, Key]:
    """The keys with other defaults for some of them."""
    return {**keys, **{name: replace(keys[name], default=value) for name, value in defaults.items()}}


def unused(keys: Keys, reason: str) -> dict[str, Key]:
    """The keys, which nothing reads for that reason."""
    return {name: replace(key, unused=reason) for name, key in keys.items()}
