"""The form of feature files, `features.npz`: arrays of items and trials, and what `info` may say."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, JsonValue

from utils.text import printable
from utils.untrusted.arrays import read_arrays
from utils.untrusted.forms import Form, parse_json

MAX_TRIALS = 10_000  # VehicleID has 10
MAX_LETTERS = 2**22  # of the JSON of info
MAX_NAMES = 2**24  # of that of names: 60,000 captions of 200 letters
_NEEDED = ("features", "pids", "camids", "paths")
_WHAT = f"a feature file, an .npz with {', '.join(_NEEDED)}"
_ITEMS = (*_NEEDED, "keys", "pictures")
_STATES = ("sizes", "times")
_TRIAL = tuple(f"{role}_{name}" for role in ("query", "gallery") for name in ("rows", "camids", "trials"))
_FORMS = {"features": (2, "f", "(N, D) floats of up to 64 bits")}
_FORMS |= dict.fromkeys(("info", "names"), (0, "U", "one text"))
_FORMS |= dict.fromkeys(
    ("paths", "keys", "pictures", "rules", "trial_names", "metadata"), (1, "U", "(N,) texts")
)
_FORMS |= dict.fromkeys(("pids", "camids", *_STATES, *_TRIAL), (1, "iu", "(N,) integers of up to 64 bits"))


def _is_json(value: JsonValue) -> JsonValue:
    json.dumps(value, allow_nan=False)  # what is read is written again, into metrics and reports
    return value


_Pixels = Annotated[int, Field(ge=1, le=10_000)]
_Pair = Annotated[list[_Pixels], Field(min_length=2, max_length=2)]
_Means = Annotated[list[Annotated[float, Field(ge=-1000, le=1000)]], Field(min_length=3, max_length=3)]
_Stds = Annotated[list[Annotated[float, Field(ge=1e-6, le=1000)]], Field(min_length=3, max_length=3)]


class FeatureInfo(Form):
    """The settings that features were made with; those that no program reads back are kept as they are."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[JsonValue, AfterValidator(_is_json)]]

    normalize: bool = True
    dataset: str | None = None
    model: str | None = None
    neck_feature: str | None = None
    size: _Pair | None = None
    stride: _Pair | None = None
    pixel_mean: _Means | None = None
    pixel_std: _Stds | None = None
    resize: Literal["bilinear", "bicubic"] | None = None


class StoredTrial(NamedTuple):
    """A trial: rows of items and the camera that each counts for, all (n,) int64, a rule's name, its own."""

    query_rows: np.ndarray
    query_camids: np.ndarray
    gallery_rows: np.ndarray
    gallery_camids: np.ndarray
    rule: str
    name: str


class StoredFeatures(NamedTuple):
    """The fields of a file's N items by name, its trials, None where it has none, its info, JSON of names.

    `states` are `sizes` in bytes and `times` of change in nanoseconds of the items' image files, (N,) int64,
    in files that are kept to be completed. `metadata` is JSON of each item in those of a gallery, else ().
    """

    items: dict[str, Any]
    trials: tuple[StoredTrial, ...] | None
    info: dict[str, Any]
    names: str
    states: dict[str, np.ndarray]
    metadata: Sequence[str] = ()


def read_feature_file(path: str | os.PathLike[str]) -> StoredFeatures:
    """Read a feature file. Raises FileNotFoundError, another OSError, or ValueError; each names the path."""
    arrays = read_arrays(path, _WHAT)
    try:
        missing = [name for name in _NEEDED if name not in arrays]
        missing += [name for name in _TRIAL if name not in arrays and "query_rows" in arrays]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        fields = {name: _checked(name, array) for name, array in arrays.items() if name in _FORMS}
        items = {name: fields[name] for name in _ITEMS if name in fields}
        states = {name: fields[name] for name in _STATES if name in fields}
        each = items | states | {name: fields[name] for name in ("metadata",) if name in fields}
        if len({len(values) for values in each.values()}) > 1:
            lengths = ", ".join(f"{name} {len(values)}" for name, values in each.items())
            raise ValueError(f"its fields are of different lengths, {lengths}")
        info = parse_json(fields.get("info", "{}"), FeatureInfo, "its info").model_dump(exclude_unset=True)
        trials = _trials(fields) if "query_rows" in fields else None
        names, metadata = fields.get("names", "{}"), fields.get("metadata", ())
        return StoredFeatures(items, trials, info, names, states, metadata)
    except ValueError as error:
        raise ValueError(f"{printable(path)} is not {_WHAT}: {error}") from error


def _checked(name: str, array: np.ndarray) -> Any:
    """A field's array, of which integers become int64 and texts a list of them, or one."""
    dimensions, kinds, allowed = _FORMS[name]
    too_fine = kinds == "f" and array.dtype.itemsize > 8
    if array.ndim != dimensions or array.dtype.kind not in kinds or too_fine:
        raise ValueError(f"{name} has shape {array.shape} of {array.dtype}; allowed: {allowed}")
    most = MAX_NAMES if name == "names" else MAX_LETTERS
    if not dimensions and array.itemsize > 4 * most:
        raise ValueError(f"{name} has {array.itemsize // 4:,} characters; allowed: up to {most:,}")
    if kinds == "iu" and array.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} has the number {array.max()}; allowed: {allowed} with a sign")
    return array.tolist() if kinds == "U" else array.astype(np.int64, copy=False) if kinds == "iu" else array


def _trials(fields: Mapping[str, Any]) -> tuple[StoredTrial, ...]:
    query, gallery = (_split(fields, role) for role in ("query", "gallery"))
    if len(query) != len(gallery):
        raise ValueError(f"{len(query)} trials of queries and {len(gallery)} of galleries")
    rules = fields.get("rules", ["cross_camera"] * len(query))
    names = fields.get("trial_names", [""] * len(query))
    for what, texts in (("rules", rules), ("trial_names", names)):
        if len(texts) != len(query):
            raise ValueError(f"{len(texts)} {what} of {len(query)} trials")
    named = [name for name in names if name]
    if len(set(named)) < len(named):
        raise ValueError("trial_names has a name twice; allowed: each once, or ''")
    words = zip(rules, names, strict=True)
    return tuple(StoredTrial(*query[n], *gallery[n], *each) for n, each in enumerate(words))


def _split(fields: Mapping[str, Any], role: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and cameras of each trial; trials are counted from 0."""
    names = [name for name in _TRIAL if name.startswith(role)]
    rows, camids, trials = (fields[name] for name in names)
    if not len(rows) == len(camids) == len(trials):
        raise ValueError(f"{', '.join(names)} must be of one length")
    items = len(fields["features"])
    for name, values, count in (("rows", rows, items), ("trials", trials, MAX_TRIALS)):
        outside = values[(values < 0) | (values >= count)]
        if len(outside):
            raise ValueError(f"{role}_{name} has the number {outside[0]}; allowed: 0 to {count - 1}")
    counts = np.bincount(trials)
    if max(counts, default=0) > items:
        raise ValueError(f"{max(counts)} {role}_rows are of one trial; allowed: up to {items}, the items")
    # One sort for all: the time does not depend on how many trials there are.
    order, ends = np.argsort(trials, kind="stable"), np.cumsum(counts)[:-1]
    parts = zip(np.split(rows[order], ends), np.split(camids[order], ends), strict=True)
    return list(parts) if len(counts) else []
