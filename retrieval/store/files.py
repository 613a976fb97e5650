"""Entries of a gallery as a feature file, which all tools on features read, and back."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.features import FeatureSet, read_names
from retrieval.labels import LabelNames
from retrieval.store.entries import Metadata, SpaceModel, as_metadata
from retrieval.store.space import FEATURE
from utils.labels import NO_CAMERA, NO_PID
from utils.text import printable, quoted
from utils.untrusted.feature_files import read_feature_file
from utils.untrusted.forms import parse_json

_DIGEST = re.compile(r"[0-9a-f]{64}")  # SHA-256, by which a gallery knows pictures
_MOST_METADATA = 2**33  # bytes in memory
_logger = logging.getLogger("transreid.retrieval")


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]], model: SpaceModel) -> int:
    """Write rows with features as a feature file; how many.

    Raises ValueError where the longest metadata would make the file too large: all take its room.
    """
    rows = list(rows)
    metadata = [as_metadata(row).model_dump_json() for row in rows]
    longest = max(range(len(rows)), key=lambda row: len(metadata[row]), default=0)
    if rows and 4 * len(rows) * len(metadata[longest]) > _MOST_METADATA:
        raise ValueError(
            f"metadata of {quoted(rows[longest]['key'])} has {len(metadata[longest]):,} characters; allowed "
            f"in a file of {len(rows):,} entries: {_MOST_METADATA // 4 // len(rows):,}"
        )
    features = np.array([row[FEATURE] for row in rows], dtype=np.float32).reshape(-1, model.width)
    pids, identities = _numbered([row["identity"] for row in rows], NO_PID)
    camids, cameras = _numbered([row["camera"] for row in rows], NO_CAMERA)
    items = FeatureSet(
        *(features, pids, camids, [row["path"] for row in rows], [row["key"] for row in rows]),
        pictures=[row["picture"] for row in rows],
        names=LabelNames(identities=identities, cameras=cameras),
    )
    info = {"model": model.name, "model_sha256": model.sha256, "normalize": True, "dataset": None}
    items.save(path, info, {"metadata": np.array(metadata, dtype=np.str_)})
    return len(rows)


def read_items(path: str | Path, model: SpaceModel) -> tuple[FeatureSet, list[Metadata]]:
    """The items of a feature file with their metadata.

    In a file without metadata an item that is named by its path gets the name of its picture as key, where
    that is known, as an entry of the same picture has it; of several the first is taken. Raises
    FileNotFoundError, ValueError for other files and for features of another model.
    """
    stored = read_feature_file(path)
    items = FeatureSet(**stored.items, names=read_names(stored.names, path))
    made_with = stored.info.get("model_sha256")
    if made_with is None:
        _logger.warning("%s does not say which model made it; assumed: %s", path, model)
    elif made_with != model.sha256:
        raise ValueError(
            f"{printable(path)} has features of another model, {printable(stored.info.get('model'))} "
            f"({str(made_with)[:12]}); allowed: those of {model}"
        )
    if len(stored.metadata) == len(items):
        return items, [parse_json(text, Metadata, f"{path}: metadata") for text in stored.metadata]
    items = _by_picture(items)
    labels = zip(items.pids.tolist(), items.camids.tolist(), items.paths, items.pictures, strict=True)
    return items, [
        Metadata(
            identity="" if pid == NO_PID else items.names.identity(pid),
            camera="" if camid == NO_CAMERA else items.names.camera(camid),
            path=os.path.abspath(place) if place.isprintable() else "",
            picture=picture if _DIGEST.fullmatch(picture) else "",
        )
        for pid, camid, place, picture in labels
    ]


def _by_picture(items: FeatureSet) -> FeatureSet:
    """The items, of which those that are named by their path are named by their picture."""
    named = zip(items.keys, items.paths, items.pictures, strict=True)
    keys = [
        picture if key == path and _DIGEST.fullmatch(picture) else printable(key)
        for key, path, picture in named
    ]
    rows = list({key: row for row, key in reversed(list(enumerate(keys)))}.values())[::-1]
    if len(rows) < len(keys):
        _logger.warning(
            "%d of %d items are of a picture that has one already", len(keys) - len(rows), len(keys)
        )
    return replace(items, keys=keys).select(sorted(rows))


def _numbered(names: Sequence[str], unknown: int) -> tuple[np.ndarray, dict[int, str]]:
    """Numbers (N,) of N names in alphabetical order, `unknown` for '', and the names by number."""
    numbers = {name: number for number, name in enumerate(sorted(set(names) - {""}))}
    rows = np.array([numbers.get(name, unknown) for name in names], dtype=np.int64)
    return rows, {number: name for name, number in numbers.items()}
