"""From the keys of published files to ours, by the table of a method."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from config.keys import Foreign


class Setting(NamedTuple):
    """A full key, its value, where it is written, and how it is written there, as keys of text take it.

    A translated one has the `source` that it comes from, and a last step `convert` to its value.
    """

    key: str
    raw: Any
    where: str
    written: str
    source: "Setting | None" = None
    convert: Callable[[Any], Any] = lambda value: value

    @property
    def place(self) -> str:
        """Where it is written, with its key."""
        return f"{self.where}: {self.key}"

    def __str__(self) -> str:
        return f"{self.key} {self.raw!r}"


class Translation(NamedTuple):
    """Settings of our keys, how many keys were translated, and a line for each that was not."""

    settings: list[Setting]
    count: int
    notes: list[str]


def translate(settings: Sequence[Setting], rows: Sequence[Foreign]) -> Translation:
    """The settings, with ours in the place of those of `rows`.

    Of a key that is set twice, in a file and in the one that it builds on, the last value counts. Raises
    ValueError for a value that a row does not allow, and where a key that another one needs is missing.
    """
    names = {row.name for row in rows}
    given = {each.key: each for each in settings if each.key in names and each.raw is not None}
    if not given:
        return Translation([each for each in settings if each.key not in names], 0, [])
    found = [each for each in settings if each.key not in names]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        ours, reason = _translate_row(row, given)
        found += ours
        reasons.setdefault(row.name, []).append(reason)
    notes = [
        f"{each} has no effect: {reasons[name][-1]}" for name, each in given.items() if all(reasons[name])
    ]
    count = len(given) - len(notes)
    missing = [
        f"{row.name} ({', '.join(row.keys)})"
        for row in rows
        if row.keys and row.name not in given and not row.needs
    ]
    if missing:
        notes.append(f"missing ({len(missing)}), so that ours keep their values: {', '.join(missing)}")
    order = {each.key: index for index, each in enumerate(settings)}
    return Translation(sorted(found, key=lambda each: order[(each.source or each).key]), count, notes)


def _translate_row(row: Foreign, given: Mapping[str, Setting]) -> tuple[list[Setting], str]:
    """Our settings for a row, and why its key has no effect by it, '' where it has."""
    setting = given.get(row.name)
    if row.rule and setting:
        row.rule.require(setting.place, setting.raw)
    if row.needs:
        name, rule = row.needs
        other = given.get(name)
        if other and not rule.holds(other.raw):
            return _brought(row.otherwise, other), f"{name} is {other.raw!r}"
        if other and not setting:
            raise ValueError(f"{other.place} is {other.raw!r} and needs {row.name}, which is missing")
        if setting and not other:
            raise ValueError(f"{setting.place} needs {name}, which is missing")
    if not setting:
        return [], "missing"
    if setting.raw == row.placeholder:
        return [], "it is left as published"
    values = [
        setting._replace(key=key, where=setting.place, source=setting, convert=row.convert)
        for key in row.keys
    ]
    return values + _brought(row.also, setting), row.unused


def _brought(settings: Mapping[str, Any], source: Setting) -> list[Setting]:
    """Settings that a key of the file brings with it."""
    return [Setting(key, value, source.place, str(value), source) for key, value in settings.items()]
