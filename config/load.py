"""From a YAML file and KEY VALUE pairs to a frozen configuration; every mistake is an error in one line."""

import ast
import difflib
import functools
import numbers
import operator
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yacs.config import CfgNode

from config.defaults import cfg, cfg_base
from utils.package import find_shipped

_SUFFIXES = (".yml", ".yaml")
_PARENT = "_BASE_"
# Far above any configuration, and low enough that no file or word keeps the program busy.
_MAX_BYTES, _MAX_NODES, _MAX_LEVELS, _MAX_PARENTS = 100_000, 10_000, 50, 20
_MAX_LITERAL, _MAX_SHOWN = 2000, 200  # characters
_PROGRAMS = (
    (cfg, "the two-stage programs train_clipreid.py and test_clipreid.py"),
    (cfg_base, "the one-stage programs train.py, test.py, train_pcl.py and test_pcl.py"),
)


class _Setting(NamedTuple):
    """A full key, the value as written, and where that was."""

    key: str
    raw: Any
    where: str


def load_config(base: CfgNode, yaml_path: str | os.PathLike[str] = "", opts: Sequence[Any] = ()) -> CfgNode:
    """A frozen copy of `base` with the settings of a YAML file, then those of `opts` (KEY, VALUE, KEY, …).

    '' is no file. A file that is not in the working directory is looked for beside the code, as
    'configs/person/vit_base.yml' or 'person/vit_base.yml'. A file may name another one, relative to itself,
    under the top-level key `_BASE_`, which is merged first. Empty nodes leave the defaults alone. Text is
    decoded as a Python literal where possible. Of a key that is given twice in `opts` the last value counts.
    Raises ValueError for unknown keys, wrong types and unreadable files, FileNotFoundError for a missing one.
    """
    config = base.clone()
    config.defrost()
    defaults = leaves(base)
    settings = _file_settings(find_shipped(yaml_path)) if os.fspath(yaml_path) else []
    for setting in [*settings, *_pair_settings(opts)]:
        _assign(config, defaults, setting)
    config.freeze()
    return config


def leaves(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a tree by full key, e.g. 'MODEL.NAME'; an empty node counts as None."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = None if isinstance(value, Mapping) else value
    return found


def _file_settings(path: Path, seen: tuple[Path, ...] = ()) -> list[_Setting]:
    tree, lines = _read_yaml(path)
    parent = tree.pop(_PARENT, None)
    settings = []
    if parent is not None:
        if not isinstance(parent, str) or not parent.isprintable():
            raise ValueError(f"{path}: {_PARENT} is {_shown(parent)}; allowed: the path of a YAML file")
        seen = (*seen, _resolved(path))
        if _resolved(path.parent / parent) in seen:
            raise ValueError(f"{path}: {_PARENT} {parent!r} leads back to the file itself")
        if len(seen) > _MAX_PARENTS:
            raise ValueError(f"{path}: more than {_MAX_PARENTS} files name each other by {_PARENT}")
        settings = _file_settings(path.parent / parent, seen)
    for key, raw in leaves(tree).items():
        settings.append(_Setting(key, raw, f"{path}, line {lines[key]}" if key in lines else str(path)))
    return settings


def _resolved(path: Path) -> Path:
    try:
        path.exists()  # asks the system, which may refuse
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a zero byte
        reason = getattr(error, "strerror", None) or _in_one_line(error)
        raise ValueError(f"{_plain(str(path))} is no path of a file: {reason}") from error


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The file's mapping, and the line of each full key."""
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"configuration file {path}; allowed: files that end in {' or '.join(_SUFFIXES)}")
    if not _resolved(path).exists():
        raise FileNotFoundError(f"configuration file {path} does not exist")
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"configuration file {path}; allowed: files of up to {_MAX_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        # Lines are not known any more in what is constructed, where the second of two equal keys has won.
        document = yaml.compose(text, Loader=yaml.SafeLoader)
        if document is None:
            return {}, {}
        _check_extent(document, path, {})
        lines = dict(_key_lines(document, "", path))
        tree = yaml.SafeLoader("").construct_document(document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        reason = _in_one_line(error.problem or error.context)
        raise ValueError(f"{path}{line}: not valid YAML, {reason}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: more than {_MAX_LEVELS} levels") from error
    except _WrongFile:
        raise
    except (OSError, MemoryError):
        raise
    except Exception as error:  # not UTF-8, a date that does not exist, a value that its tag does not fit
        raise ValueError(f"{path}: not valid YAML, {_in_one_line(error)}") from error
    if tree is None:
        return {}, {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: holds a {type(tree).__name__}; allowed: a mapping of keys to values")
    return tree, lines


class _WrongFile(ValueError):
    """Of a file that is YAML, but no configuration; the message says all."""


def _check_extent(node: yaml.Node, path: Path, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Nodes and levels under a node when every alias is written out, where a few lines can mean billions.

    `known` holds them by the id of a node, None while one is looked at.
    """
    if id(node) not in known:
        known[id(node)] = None
        below = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        extents = [_check_extent(part, path, known) for part in below]
        nodes = sum(count for count, _ in extents)
        levels = max((level for _, level in extents), default=0)
        if nodes >= _MAX_NODES or levels >= _MAX_LEVELS:
            raise _WrongFile(f"{path}: more than {_MAX_NODES} values or {_MAX_LEVELS} levels")
        known[id(node)] = nodes + 1, levels + 1
    extent = known[id(node)]
    if extent is None:
        raise _WrongFile(f"{path}, line {node.start_mark.line + 1}: a value that holds itself")
    return extent


def _key_lines(node: yaml.Node | None, prefix: str, path: Path) -> Iterator[tuple[str, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for name, value in node.value:
        line = name.start_mark.line + 1
        if not isinstance(name, yaml.ScalarNode):
            raise _WrongFile(f"{path}, line {line}: a key that is a {name.id}; allowed: names")
        key = f"{prefix}{name.value}"
        if key in lines:
            raise _WrongFile(f"{path}, line {line}: {_plain(key)} stands already in line {lines[key]}")
        lines[key] = line
        yield key, line
        yield from _key_lines(value, f"{key}.", path)


def _in_one_line(reason: object) -> str:
    return _plain(" ".join(str(reason).split()))


def _plain(text: str) -> str:
    """Text as a message can hold it: not too long, in one line, nothing that a terminal obeys."""
    text = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
    return text if text.isprintable() else repr(text)[1:-1]


def _shown(value: object) -> str:
    """A value as it is written, or its beginning."""
    try:
        return _plain(repr(value))
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"


def _pair_settings(opts: Sequence[Any]) -> list[_Setting]:
    if len(opts) % 2:
        raise ValueError(
            f"command line: {len(opts)} words {_shown(' '.join(map(str, opts)))}; allowed: KEY VALUE pairs "
            "(a list is one word in quotes, '[12, 12]')"
        )
    return [_Setting(str(key), raw, "command line") for key, raw in zip(opts[::2], opts[1::2], strict=True)]


def _assign(config: CfgNode, defaults: dict[str, Any], setting: _Setting) -> None:
    key, raw, where = setting
    if key in defaults:
        if raw is not None:
            *groups, name = key.split(".")
            functools.reduce(operator.getitem, groups, config)[name] = _converted(setting, defaults[key])
        return
    member = next((known for known in defaults if known.startswith(f"{key}.")), None)
    if member is None:
        raise ValueError(f"{where}: {_unknown(key, defaults)}")
    if raw is not None:
        raise ValueError(
            f"{where}: {key} is {_shown(raw)}, but it is a group of keys; allowed: its keys, e.g. {member}"
        )


def _unknown(key: str, defaults: dict[str, Any]) -> str:
    key = _plain(key)
    (nearest,) = difflib.get_close_matches(key.upper(), defaults, n=1, cutoff=0.0)
    for tree, programs in _PROGRAMS:
        if key in leaves(tree):
            return f"{key} is a key of {programs} only; the nearest key here is {nearest}"
    return f"unknown key {key}; the nearest known key is {nearest}"


def _converted(setting: _Setting, default: Any) -> Any:
    """The value in the type of the default, which it must have or fit without loss."""
    key, raw, where = setting
    value = _decoded(raw)
    if key == "DATASETS.NAMES" and isinstance(value, list | tuple) and value:
        if len(value) > 1:
            names = _plain(", ".join(map(str, value)))
            raise ValueError(f"{where}: {key} has {len(value)} names, {names}; allowed: one data set")
        value = value[0]
    if isinstance(default, list | tuple):
        fits, expected, result = _converted_list(key, value, default)
    else:
        fits, expected = _fits(value, default), _EXPECTED[type(default)]
        result = type(default)(value) if fits else None
    if fits:
        return result
    if isinstance(default, str) and isinstance(raw, str) and _reads_as_number(value):
        return raw  # a folder 2024, the GPU 0, or the word None: the text was meant
    if isinstance(default, str) and isinstance(raw, bool):
        expected += " (bare on, off, yes, no are booleans in YAML: put the word in quotes)"
    raise ValueError(f"{where}: {key} is {_shown(value)}; expected: {expected}")


_EXPECTED = {
    bool: "bool, True or False",
    int: "int, a whole number",
    float: "float, a number",
    str: "str, text",
}


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, float):
        return type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)
    if type(default) is int and type(value) is int:
        return abs(value) <= sys.maxsize
    # Not isinstance: True is an int to Python, but no number of epochs.
    return type(value) is type(default)


def _converted_list(key: str, value: Any, default: Sequence[Any]) -> tuple[bool, str, Any]:
    """Whether the value fits a list of numbers, what was expected, and the list in the default's types."""
    any_length = key.endswith(".STEPS")
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
    return fits, expected, type(default)(kind(item) for item in value) if fits else None


def _reads_as_number(value: Any) -> bool:
    return value is None or (isinstance(value, numbers.Number) and not isinstance(value, bool))


def _decoded(raw: Any) -> Any:
    if not isinstance(raw, str) or len(raw) > _MAX_LITERAL:
        return raw
    try:
        with warnings.catch_warnings():  # of a backslash in a path, "1if 1else 2"
            warnings.simplefilter("ignore")
            return ast.literal_eval(raw)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return raw
