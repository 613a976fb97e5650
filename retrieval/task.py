"""RetrievalTask: features of every image once, and the trials that make some of them queries of a gallery.

It is what a test leaves behind (`features.npz`): all of this room can be computed from it, without model,
images or GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from retrieval.features import FeatureSet, feature_arrays, feature_file, read_features, write_arrays

_ROLES = ("query", "gallery")


class TrialRows(NamedTuple):
    """Who is who in a trial: rows of the task's images, and the camera that each counts for, all (n,) int64.

    Cameras are the trial's own because a protocol may invent them (VehicleID: queries 0, gallery 1).
    """

    query_rows: Tensor
    query_camids: Tensor
    gallery_rows: Tensor
    gallery_camids: Tensor


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Images, one or more trials over them, and `info`: model, data set and protocol, as JSON can hold it.

    Raises ValueError without a trial, and for rows that are not in `images`.
    """

    images: FeatureSet
    trials: tuple[TrialRows, ...]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.trials:
            raise ValueError("a retrieval task needs at least one trial, got none")
        for rows in self.trials:
            for part in (rows.query_rows, rows.gallery_rows):
                outside = part[(part < 0) | (part >= len(self.images))]
                if len(outside):
                    raise ValueError(f"row {int(outside[0])} of a trial is outside 0..{len(self.images) - 1}")

    def __len__(self) -> int:
        """The number of trials."""
        return len(self.trials)

    def __iter__(self) -> Iterator[tuple[FeatureSet, FeatureSet]]:
        """(query, gallery) of each trial in turn."""
        return (self._parts(rows) for rows in self.trials)

    def normalized(self) -> RetrievalTask:
        """The same task on features of L2 norm 1. Raises ValueError naming a row that has no norm."""
        return RetrievalTask(self.images.normalized(), self.trials, self.info)

    @staticmethod
    def all_against_all(images: FeatureSet, info: Mapping[str, Any] | None = None) -> RetrievalTask:
        """Every image is a query in a gallery of all."""
        rows = torch.arange(len(images))
        return RetrievalTask(images, (TrialRows(rows, images.camids, rows, images.camids),), info or {})

    @staticmethod
    def between(
        query: FeatureSet, gallery: FeatureSet, info: Mapping[str, Any] | None = None
    ) -> RetrievalTask:
        """One trial of these queries in this gallery. Raises ValueError for features of different widths."""
        if query.features.shape[1:] != gallery.features.shape[1:]:
            raise ValueError(
                f"query features are {query.features.shape[1]} wide and gallery features "
                f"{gallery.features.shape[1]}: the widths must be equal"
            )
        images = FeatureSet(
            torch.cat([query.features, gallery.features]),
            torch.cat([query.pids, gallery.pids]),
            torch.cat([query.camids, gallery.camids]),
            query.paths + gallery.paths,
        )
        rows = torch.arange(len(images))
        split = len(query)
        trial = TrialRows(rows[:split], query.camids, rows[split:], gallery.camids)
        return RetrievalTask(images, (trial,), info or {})

    def save(self, path: str | Path) -> None:
        """Write exactly the file `path`, an .npz that `FeatureSet.load` reads too.

        Besides features (N, D), pids, camids, paths it holds for each role `query` and `gallery` the arrays
        `…_rows` (rows of the N images), `…_camids` and `…_trials` (number of the trial), one entry for each
        image of each trial, and `info` as JSON.
        """
        arrays = feature_arrays(self.images)
        for role in _ROLES:
            parts = {
                name: [getattr(trial, f"{role}_{name}").cpu() for trial in self.trials]
                for name in ("rows", "camids")
            }
            parts["trials"] = [torch.full_like(rows, i) for i, rows in enumerate(parts["rows"])]
            arrays |= {f"{role}_{name}": torch.cat(part).numpy() for name, part in parts.items()}
        write_arrays(path, arrays, self.info)

    @staticmethod
    def load(path: str | Path) -> RetrievalTask:
        """Read what `save` wrote, onto the CPU; in a file of mere features every image is searched in all.

        Raises FileNotFoundError, or ValueError for other files.
        """
        with feature_file(path) as stored:
            images = read_features(stored)
            info = json.loads(str(stored["info"])) if "info" in stored else {}
            if not isinstance(info, dict):
                raise ValueError(f"its info is {info!r}, allowed is a JSON object")
            if "query_rows" not in stored:
                return RetrievalTask.all_against_all(images, info)
            roles = {role: _split_by_trial(stored, role) for role in _ROLES}
            if len(roles["query"]) != len(roles["gallery"]):
                raise ValueError(
                    f"{len(roles['query'])} trials of queries and {len(roles['gallery'])} of galleries"
                )
            trials = zip(roles["query"], roles["gallery"], strict=True)
            return RetrievalTask(
                images, tuple(TrialRows(*query, *gallery) for query, gallery in trials), info
            )

    def _parts(self, rows: TrialRows) -> tuple[FeatureSet, FeatureSet]:
        return (
            self.images.select(rows.query_rows).with_cameras(rows.query_camids),
            self.images.select(rows.gallery_rows).with_cameras(rows.gallery_camids),
        )


def _split_by_trial(stored: Mapping[str, np.ndarray], role: str) -> list[tuple[Tensor, Tensor]]:
    rows, camids, trials = (
        torch.from_numpy(stored[f"{role}_{name}"]) for name in ("rows", "camids", "trials")
    )
    if not len(rows) == len(camids) == len(trials):
        raise ValueError(f"{role}_rows, {role}_camids and {role}_trials must be of one length")
    count = int(trials.max()) + 1 if len(trials) else 0
    return [(rows[trials == number], camids[trials == number]) for number in range(count)]
