"""From a YAML file and KEY VALUE pairs to a frozen configuration; every mistake is an error in one line."""

import ast
import difflib
import functools
import operator
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from config import TABLES
from config.foreign import Setting, translate
from config.keys import Key, KeyTable, table_of
from config.nodes import single_name
from utils.package import find_shipped
from utils.text import Lines, printable
from utils.untrusted.plain import read_plain_text
from utils.untrusted.settings import MAX_SETTINGS, Settings, leaves, parse_settings

_SUFFIXES = (".yml", ".yaml")
_PARENT = "_BASE_"
COMMAND_LINE = "command line"
_SOURCES = "__sources__"  # the attribute that says where the values of a configuration were written
_NOTES = "__notes__"  # the attribute with the lines of `notes`
# Null, and surrogates but those in which Python keeps bytes that are no text.
_NO_NAME = frozenset(map(chr, (0, *range(0xD800, 0xDC80), *range(0xDD00, 0xE000))))


def load_config(base: CfgNode, yaml_path: str | os.PathLike[str] = "", opts: Sequence[Any] = ()) -> CfgNode:
    """A frozen copy of `base` with the settings of a YAML file, then those of `opts` (KEY, VALUE, KEY, …).

    '' stands for no file. A file that is not in the working directory is looked for next to the code, as
    'configs/person/vit_base.yml' or 'person/vit_base.yml'. A file may name another one, relative to itself,
    under the top-level key `_BASE_`, which is merged first. In place of ours it may have the keys of a
    method's published files, which `notes` lists. Empty nodes leave the defaults as they are. Text is
    decoded as a Python literal where possible; a key of text takes numbers and the like as written. When
    `opts` has a key twice, the last value counts. Raises ValueError for unknown keys, wrong types and
    unreadable files, FileNotFoundError for a missing one.
    """
    config = base.clone()
    config.defrost()
    table = table_of(base)
    written = _file_settings(find_shipped(yaml_path)) if os.fspath(yaml_path) else []
    settings, count, left = translate(written, table.published)
    settings += _pair_settings(opts)
    values = [_assign(config, table, setting) for setting in settings]
    config.__dict__[_SOURCES] = sources(base) | {setting.key: setting.where for setting in settings}
    done = [
        f"{setting.source} -> {setting.key} {value!r}"
        for setting, value in zip(settings, values, strict=True)
        if setting.source
    ]
    if done or left:
        config.__dict__[_NOTES] = [f"{count} keys of published files are translated:", *done, *left]
    config.freeze()
    return config


def sources(config: CfgNode) -> dict[str, str]:
    """Where the values of a loaded configuration were written, by full key; defaults are not in it."""
    return config.__dict__.get(_SOURCES, {})


def notes(config: CfgNode) -> list[str]:
    """Lines that say how the keys of published files in a loaded configuration were translated, if any."""
    return config.__dict__.get(_NOTES, [])


def as_lines(config: CfgNode) -> Lines:
    """The configuration as a log shows it: each key and value is one line, whatever the value holds."""

    def escaped(value: Any) -> Any:
        if isinstance(value, CfgNode):
            return CfgNode({name: escaped(each) for name, each in value.items()})
        return printable(value) if isinstance(value, str) else value

    return Lines(escaped(config))


def _file_settings(path: Path, seen: tuple[str, ...] = ()) -> list[Setting]:
    tree, places = _read_yaml(path)
    parent = tree.pop(_PARENT, None)
    settings = []
    if parent is not None:
        if not isinstance(parent, str):
            raise ValueError(f"{path}: {_PARENT} is {parent!r}; allowed: the path of a YAML file")
        seen = (*seen, os.path.realpath(path))
        if os.path.realpath(path.parent / parent) in seen:
            raise ValueError(f"{path}: {_PARENT} {parent!r} leads back to the file itself")
        settings = _file_settings(path.parent / parent, seen)
    for key, raw in leaves(tree).items():
        line, written = places.get(key, (0, str(raw)))
        settings.append(Setting(key, raw, f"{path}, line {line}" if line else str(path), written))
    return settings


def _read_yaml(path: Path) -> Settings:
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"configuration file {path}; allowed: files that end in {' or '.join(_SUFFIXES)}")
    if not path.exists():
        raise FileNotFoundError(f"configuration file {path} does not exist")
    return parse_settings(read_plain_text(path, MAX_SETTINGS), str(path))


def _pair_settings(opts: Sequence[Any]) -> list[Setting]:
    if len(opts) % 2:
        raise ValueError(
            f"{COMMAND_LINE}: {len(opts)} words {' '.join(map(str, opts))!r}; allowed: KEY VALUE pairs "
            "(a list is one word in quotes, '[12, 12]')"
        )
    pairs = zip(opts[::2], opts[1::2], strict=True)
    return [Setting(str(key), raw, COMMAND_LINE, str(raw)) for key, raw in pairs]


def _assign(config: CfgNode, table: KeyTable, setting: Setting) -> Any:
    """Set a value, unless it is empty; returns it as it is set. Raises ValueError."""
    key, raw, where = setting.key, setting.raw, setting.where
    if key in table.keys:
        if raw is None:
            return None
        *groups, name = key.split(".")
        value = setting.convert(_converted(setting, table.keys[key]))
        functools.reduce(operator.getitem, groups, config)[name] = value
        return value
    names = [*table.keys, *(row.name for row in table.published if where != COMMAND_LINE)]
    member = next((known for known in names if known.startswith(f"{key}.")), None)
    if member is None:
        raise ValueError(f"{where}: {_unknown(key, table, names)}")
    if raw is not None:
        raise ValueError(
            f"{where}: {key} is {raw!r}, but it is a group of keys; allowed: its keys, e.g. {member}"
        )
    return None


def _unknown(key: str, table: KeyTable, names: Sequence[str]) -> str:
    known = {name.upper(): name for name in names}
    (nearest,) = difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.0)
    ours = [name for row in table.published if row.name == key for name in row.keys]
    if ours:
        return f"{key} is a key of published files only; here it is {' or '.join(ours)}"
    programs = [
        program
        for table in TABLES
        if key in table.keys or key in [row.name for row in table.published]
        for program in table.programs
    ]
    if programs:
        return f"{key} is a key of {', '.join(programs)} only; the nearest key here is {known[nearest]}"
    return f"unknown key {key}; the nearest known key is {known[nearest]}"


def _converted(setting: Setting, declared: Key) -> Any:
    """The value in the type of the default, which it must have or fit without loss."""
    key, raw, where, written, *_ = setting
    value, default = _decoded(raw), declared.default
    if key == "DATASETS.NAMES":
        try:
            value = single_name(value)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if isinstance(default, list):
        fits, expected, result = _converted_list(value, declared)
    else:
        fits, expected = _fits(value, default), _EXPECTED[type(default)]
        result = type(default)(value) if fits else None
    if fits and isinstance(default, str) and not _NO_NAME.isdisjoint(result):
        expected += " without null and halves of letters, which no name may hold"
    elif fits:
        return result
    elif isinstance(default, str):
        # A folder 2024, the GPUs 0,1 or the word None: the text was meant; not so a tuple in brackets.
        is_bare = isinstance(value, tuple) and not written.lstrip().startswith("(")
        if is_bare or not isinstance(value, bool | list | tuple | dict | set):
            return written
        if isinstance(value, bool):
            expected += " (bare on, off, yes, no, True, False are booleans: put the word in quotes, \"'on'\")"
        else:
            expected += " without brackets, a,b"
    raise ValueError(f"{where}: {key} is {value!r}; expected: {expected}")


_EXPECTED = {
    bool: "bool, True or False",
    int: "int, a whole number",
    float: "float, a number",
    str: "str, text",
}


def _fits(value: Any, default: Any) -> bool:
    # Not isinstance: True is an int to Python, but no number of epochs.
    return type(value) is type(default) or (isinstance(default, float) and type(value) is int)


def _converted_list(value: Any, declared: Key) -> tuple[bool, str, list[Any]]:
    """Whether the value fits a list of numbers, what was expected, and the list in the default's types."""
    default, any_length = declared.default, declared.any_length
    kind = type(default[0])
    count = "any number of" if any_length else str(len(default))
    example = list(default)
    if _fits(value, default[0]):
        example = [value] if any_length else [value] * len(default)
    expected = f"list of {count} {kind.__name__}s, e.g. '{example}'"
    fits = (
        isinstance(value, list | tuple)
        and (any_length or len(value) == len(default))
        and all(_fits(item, default[0]) for item in value)
    )
    return fits, expected, [kind(item) for item in value] if fits else []


def _decoded(raw: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    try:
        with warnings.catch_warnings():  # Python warns of a backslash, which a path may have
            warnings.simplefilter("ignore")
            return ast.literal_eval(raw)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return raw
