"""Rules of names: where in the path of an image its identity and its camera are written."""

import re
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

FIELDS = ("pid", "camid")
_PART = re.compile(r"(\{[^{}]*\}|\*)")
_USUAL = (  # tried when none is given, the strictest first
    "{pid:d}_c{camid:d}*",
    "{pid}_c{camid:d}*",
    "{pid}_cam{camid:d}*",
    "{pid}/{camid}/*",
    "{pid:d}_*",
    "{pid:d}-*",
    "{pid}_*",
)


class NamedLabels(NamedTuple):
    """Identity and camera as a name holds them; None for a camera that is not in it."""

    pid: str
    camid: str | None


class NamingRule:
    """A rule such as `{pid}_c{camid:d}_*`, for file names without their suffix.

    `{pid}` and `{camid}` are the shortest text that fits, `{pid:d}` and `{camid:d}` all digits there, `*` is
    any text, also none. None of them holds a `/`: a rule with one, such as `{pid}/{camid}/*`, is for paths
    below the folder, others for file names in any folder. Raises ValueError for a rule without `{pid}`, a
    field that is unknown or comes twice, and one whose end is not clear, as before a `*`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts = [part for part in _PART.split(text) if part]
        fields = [part for part in parts if part.startswith("{")]
        names = [part.strip("{}").removesuffix(":d") for part in fields]
        if "pid" not in names or len({*names}) < len(names) or not {*names} <= {*FIELDS}:
            self._refuse("{pid} and, perhaps, {camid}, each once; {pid:d} and {camid:d} for digits")
        for part, following in pairwise(parts):
            if part in ("{pid}", "{camid}") and following in ("*", *fields):
                digits = part.replace("}", ":d}")
                self._refuse(f"a text between {part} and {following}, or {digits} for digits")
        self._pattern = re.compile("".join(map(_as_regex, parts)))
        self._is_of_paths = "/" in text

    def _refuse(self, allowed: str) -> None:
        raise ValueError(f"rule is {self.text!r}; allowed: {allowed}")

    def read(self, path: PurePosixPath) -> NamedLabels | None:
        """The labels of an image, by its path below the folder; None for a name that does not fit."""
        name = str(path.with_suffix("")) if self._is_of_paths else path.stem
        found = self._pattern.fullmatch(name)
        return found and NamedLabels(found["pid"], found.groupdict().get("camid"))


def _as_regex(part: str) -> str:
    if part == "*":
        return "[^/]*"
    if not part.startswith("{"):
        return re.escape(part)
    name, _, kind = part.strip("{}").partition(":")
    return f"(?P<{name}>{'[0-9]+' if kind else '[^/]+?'})"


def likely_rule(paths: list[PurePosixPath]) -> str:
    """The first of the usual rules that fits all the names, or ''.

    It finds two identities or more, and one with several images.
    """
    for text in _USUAL:
        labels = [NamingRule(text).read(path) for path in paths]
        pids = {found.pid for found in labels if found}
        if None not in labels and 1 < len(pids) < len(paths):
            return text
    return ""
