"""RetrievalTask: features of every item once, and the trials that make some of them queries of a gallery.

A test writes it as `features.npz`. Everything in this room is computed from it, without model, images or GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from retrieval.features import FeatureSet, feature_arrays, read_names
from retrieval.labels import LabelNames
from retrieval.rules import find_rule
from utils.files import write_arrays
from utils.untrusted.feature_files import read_feature_file

_ROLES = ("query", "gallery")


class TrialRows(NamedTuple):
    """A trial: rows of the task's items, the camera that each counts for, all (n,) int64, and a rule's name.

    Cameras belong to the trial because a protocol may invent them (VehicleID: queries 0, gallery 1). A trial
    with a `name` is reported by itself, next to the mean of all trials.
    """

    query_rows: Tensor
    query_camids: Tensor
    gallery_rows: Tensor
    gallery_camids: Tensor
    rule: str = "cross_camera"
    name: str = ""


class TrialFeatures(NamedTuple):
    """A trial with the features of its items; `rule` is a name in `RULES`."""

    query: FeatureSet
    gallery: FeatureSet
    rule: str


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Items, one or more trials over them, and `info`: model, data set and protocol, JSON-serialisable.

    `names` are identities, cameras and texts as people know them. Raises ValueError without a trial, for rows
    that are not in `images`, and for an unknown rule.
    """

    images: FeatureSet
    trials: tuple[TrialRows, ...]
    info: Mapping[str, Any] = field(default_factory=dict)
    names: LabelNames = field(default_factory=LabelNames)

    def __post_init__(self) -> None:
        if not self.trials:
            raise ValueError("a retrieval task needs at least one trial, got none")
        for trial in self.trials:
            find_rule(trial.rule)
            for part in (trial.query_rows, trial.gallery_rows):
                outside = part[(part < 0) | (part >= len(self.images))]
                if len(outside):
                    raise ValueError(f"row {int(outside[0])} of a trial is outside 0..{len(self.images) - 1}")

    def __len__(self) -> int:
        """The number of trials."""
        return len(self.trials)

    def __iter__(self) -> Iterator[TrialFeatures]:
        """(query, gallery, rule) of each trial in turn."""
        for trial in self.trials:
            yield TrialFeatures(
                self.images.select(trial.query_rows).with_cameras(trial.query_camids),
                self.images.select(trial.gallery_rows).with_cameras(trial.gallery_camids),
                trial.rule,
            )

    def with_pictures(self) -> RetrievalTask:
        """The same task, with the names of all pictures that its rules compare: see `name_pictures`."""
        wanted = torch.zeros(len(self.images), dtype=torch.bool)
        for trial in self.trials:
            query, gallery = find_rule(trial.rule).compared(
                trial.query_camids.cpu(), trial.gallery_camids.cpu()
            )
            wanted[trial.query_rows.cpu()[query]] = True
            wanted[trial.gallery_rows.cpu()[gallery]] = True
        return replace(self, images=self.images.with_pictures(wanted))

    def swapped(self) -> RetrievalTask:
        """The same task with queries and gallery in each other's place, under the same rules."""
        trials = (TrialRows(*trial[2:4], *trial[:2], *trial[4:]) for trial in self.trials)
        return replace(self, trials=tuple(trials))

    def normalized(self) -> RetrievalTask:
        """The same task on features of L2 norm 1. Raises ValueError naming a row that has no norm."""
        return replace(self, images=self.images.normalized())

    @staticmethod
    def all_against_all(images: FeatureSet, info: Mapping[str, Any] | None = None) -> RetrievalTask:
        """Every item is a query in a gallery of all items."""
        rows = torch.arange(len(images))
        trial = TrialRows(rows, images.camids, rows, images.camids)
        return RetrievalTask(images, (trial,), info or {}, images.names)

    @staticmethod
    def between(
        query: FeatureSet,
        gallery: FeatureSet,
        info: Mapping[str, Any] | None = None,
        rule: str = "cross_camera",
    ) -> RetrievalTask:
        """One trial of these queries in this gallery. Raises ValueError for features of different widths."""
        images = FeatureSet.concat([query, gallery])
        rows = torch.arange(len(images))
        split = len(query)
        trial = TrialRows(rows[:split], query.camids, rows[split:], gallery.camids, rule)
        return RetrievalTask(images, (trial,), info or {}, images.names)

    def save(self, path: str | Path) -> None:
        """Write exactly the file `path`, an .npz that `FeatureSet.load` reads too.

        Besides the fields of `images` it holds for each role `query` and `gallery` the arrays `…_rows` (rows
        of the N items), `…_camids` and `…_trials` (number of the trial), one entry for each item of each
        trial, `rules`, one name for each trial, `info` as JSON, and, where there are any, `trial_names`, one
        for each trial, and `names` as JSON.
        """
        arrays = feature_arrays(self.images, self.names)
        for role in _ROLES:
            parts = {
                name: [getattr(trial, f"{role}_{name}").cpu() for trial in self.trials]
                for name in ("rows", "camids")
            }
            parts["trials"] = [torch.full_like(rows, i) for i, rows in enumerate(parts["rows"])]
            arrays |= {f"{role}_{name}": torch.cat(part).numpy() for name, part in parts.items()}
        arrays["rules"] = np.array([trial.rule for trial in self.trials], dtype=np.str_)
        if any(trial.name for trial in self.trials):
            arrays["trial_names"] = np.array([trial.name for trial in self.trials], dtype=np.str_)
        write_arrays(path, arrays, self.info)

    @staticmethod
    def load(path: str | Path) -> RetrievalTask:
        """Read what `save` wrote, onto the CPU; in a file without trials every item is searched in all items.

        Raises FileNotFoundError, or ValueError for other files.
        """
        stored = read_feature_file(path)
        names = read_names(stored.names, path)
        images = FeatureSet(**stored.items, names=names)
        if stored.trials is None:
            return RetrievalTask.all_against_all(images, stored.info)
        trials = (
            TrialRows(*map(torch.from_numpy, trial[:4]), rule=trial.rule, name=trial.name)
            for trial in stored.trials
        )
        try:
            return RetrievalTask(images, tuple(trials), stored.info, names)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
