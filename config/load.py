"""From a YAML file and KEY VALUE pairs to a frozen configuration; every mistake is an error in one line."""

import ast
import difflib
import functools
import numbers
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yacs.config import CfgNode

from config.defaults import cfg, cfg_base

_SUFFIXES = (".yml", ".yaml")
_PARENT = "_BASE_"
_PROGRAMS = (
    (cfg, "the two-stage programs train_clipreid.py and test_clipreid.py"),
    (cfg_base, "the one-stage programs train.py and test.py"),
)


class _Setting(NamedTuple):
    """A full key, the value as written, and where that was."""

    key: str
    raw: Any
    where: str


def load_config(base: CfgNode, yaml_path: str | os.PathLike[str] = "", opts: Sequence[Any] = ()) -> CfgNode:
    """A frozen copy of `base` with the settings of a YAML file, then those of `opts` (KEY, VALUE, KEY, …).

    '' is no file. A file may name another one, relative to itself, under the top-level key `_BASE_`, which is
    merged first. Empty nodes leave the defaults alone. Text is decoded as a Python literal where possible. Of
    a key that is given twice in `opts` the last value counts. Raises ValueError for unknown keys, wrong types
    and unreadable files, FileNotFoundError for a missing one.
    """
    config = base.clone()
    config.defrost()
    defaults = leaves(base)
    settings = _file_settings(Path(yaml_path)) if os.fspath(yaml_path) else []
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
        if not isinstance(parent, str):
            raise ValueError(f"{path}: {_PARENT} is {parent!r}; allowed: the path of a YAML file")
        seen = (*seen, path.resolve())
        if (path.parent / parent).resolve() in seen:
            raise ValueError(f"{path}: {_PARENT} {parent!r} leads back to the file itself")
        settings = _file_settings(path.parent / parent, seen)
    for key, raw in leaves(tree).items():
        settings.append(_Setting(key, raw, f"{path}, line {lines[key]}" if key in lines else str(path)))
    return settings


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The file's mapping, and the line of each full key."""
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"configuration file {path}; allowed: files that end in {' or '.join(_SUFFIXES)}")
    if not path.exists():
        raise FileNotFoundError(f"configuration file {path} does not exist")
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
        # safe_load forgets lines and lets the second of two equal keys win in silence.
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{line}: not valid YAML, {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise ValueError(f"{path}: not valid YAML, {' '.join(str(error).split())}") from error
    if tree is None:
        return {}, {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: holds a {type(tree).__name__}; allowed: a mapping of keys to values")
    return tree, dict(_key_lines(document, "", path))


def _key_lines(node: yaml.Node | None, prefix: str, path: Path) -> Iterator[tuple[str, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for name, value in node.value:
        key, line = f"{prefix}{name.value}", name.start_mark.line + 1
        if key in lines:
            raise ValueError(f"{path}, line {line}: {key} stands already in line {lines[key]}")
        lines[key] = line
        yield key, line
        yield from _key_lines(value, f"{key}.", path)


def _pair_settings(opts: Sequence[Any]) -> list[_Setting]:
    if len(opts) % 2:
        raise ValueError(
            f"command line: {len(opts)} words {' '.join(map(str, opts))!r}; allowed: KEY VALUE pairs "
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
            f"{where}: {key} is {raw!r}, but it is a group of keys; allowed: its keys, e.g. {member}"
        )


def _unknown(key: str, defaults: dict[str, Any]) -> str:
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
            names = ", ".join(map(str, value))
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
    raise ValueError(f"{where}: {key} is {value!r}; expected: {expected}")


_EXPECTED = {
    bool: "bool, True or False",
    int: "int, a whole number",
    float: "float, a number",
    str: "str, text",
}


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, float):
        return type(value) in (int, float)
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
    if not isinstance(raw, str):
        return raw
    try:
        return ast.literal_eval(raw)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return raw
