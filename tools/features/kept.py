"""Features of image files, kept in a feature file, so that only new and changed images are encoded."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from retrieval import FeatureSet
from tools.features.finding import NoneReadableError
from utils.labels import NO_CAMERA, NO_PID
from utils.lock import locked
from utils.untrusted.feature_files import read_feature_file

_MADE_WITH = (
    "weight_sha256",
    "model",
    "size",
    "stride",
    "pixel_mean",
    "pixel_std",
    "resize",
    "orientation",
    "precision",
)
_AT_ONCE = 10_000  # images, after which their features are written, lest they be lost
_State = tuple[int, int]  # size in bytes, time of the last change in nanoseconds
_logger = logging.getLogger("transreid.tools")


class _Kept(NamedTuple):
    """Features in a file, and the state of each image file when it was encoded, by key."""

    features: FeatureSet
    states: dict[str, _State]


def keep_features(
    file: Path, paths: Sequence[str], info: Mapping[str, Any], encode: Callable[[Sequence[str]], FeatureSet]
) -> FeatureSet:
    """Features of the images at `paths`, in their order; those in `file` are taken where nothing has changed.

    `encode` gives the features of the others, without files that cannot be read. An image is the same where
    its path, size and time of change are; with other settings in `info` none is. `file` then has what was
    searched, or a part of it where the program was interrupted. The log says how many images changed. Raises
    ValueError for a feature file of another program, and OSError where the file cannot be written, or while
    another process writes it.
    """
    info = json.loads(json.dumps(info))  # as it is read again
    with locked(file.with_name(f".{file.name}.lock")):
        kept = _read(file, info)
        by_key = {os.path.abspath(path): path for path in paths}
        states = {key: _state(key) for key in by_key}
        same = [row for row, key in enumerate(kept.features.keys) if kept.states[key] == states.get(key)]
        known = kept.features.select(same)
        searched = set(known.keys)
        new = [path for key, path in by_key.items() if key not in searched]
        dropped = len(kept.states.keys() - by_key.keys())
        _logger.info(
            "%d of %d images are in %s already; %d are new or changed; %d are no longer searched and dropped",
            *(len(known), len(by_key), file, len(new), dropped),
        )
        parts = [known] if len(known) else []
        for part in _encode(new, encode, needed=not parts):
            parts.append(part)
            _write(file, _in_order(parts, by_key), states, info)
        features = _in_order(parts, by_key)
        if dropped and parts == [known]:
            _write(file, features, states, info)
    return features


def _encode(
    paths: Sequence[str], encode: Callable[[Sequence[str]], FeatureSet], *, needed: bool
) -> Iterator[FeatureSet]:
    """Features of a portion after the other; if `needed` raises NoneReadableError where none can be read."""
    failure, found = None, False
    for start in range(0, len(paths), _AT_ONCE):
        try:
            features = encode(paths[start : start + _AT_ONCE])
        except NoneReadableError as error:
            failure = error
            continue
        found = True
        yield features
    if failure and needed and not found:
        raise failure


def _write(
    file: Path, features: FeatureSet, states: Mapping[str, _State | None], info: Mapping[str, Any]
) -> None:
    numbers = np.array([states[key] for key in features.keys], dtype=np.int64)
    features.save(file, info, {"sizes": numbers[:, 0], "times": numbers[:, 1]})


def _read(file: Path, info: Mapping[str, Any]) -> _Kept:
    """What is in a file, nothing where it does not exist or was made with other settings."""
    nothing = _Kept(FeatureSet(torch.zeros(0, 1), [], [], []), {})
    if not file.exists():
        return nothing
    stored = read_feature_file(file)
    if len(stored.states) < 2 or stored.trials is not None:
        raise ValueError(
            f"{file} is a feature file of another program; allowed: a new name, or one kept here"
        )
    differ = [name for name in _MADE_WITH if stored.info.get(name) != info[name]]
    features = FeatureSet(**stored.items)
    if differ:
        _logger.info(
            "%s: the features of %d images were made with another %s and are not used",
            *(file, len(features), ", ".join(differ)),
        )
        return nothing
    states = zip(*(stored.states[name].tolist() for name in ("sizes", "times")), strict=True)
    return _Kept(features, dict(zip(features.keys, states, strict=True)))


def _state(path: str) -> _State | None:
    """None where there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def _in_order(parts: Sequence[FeatureSet], by_key: Mapping[str, str]) -> FeatureSet:
    """The features as one set, on the CPU, named by absolute path; paths are those of `by_key`."""
    features = torch.cat([part.features.cpu() for part in parts])
    rows = {os.path.abspath(key): row for row, key in enumerate(key for part in parts for key in part.keys)}
    keys = [key for key in by_key if key in rows]
    unknown = [NO_PID] * len(keys), [NO_CAMERA] * len(keys)
    return FeatureSet(features[[rows[key] for key in keys]], *unknown, [by_key[key] for key in keys], keys)
