"""Extraction of features, and the retrieval task of a data set's trials."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from datasets import CaptionRecord, ImageRecord, Trial
from processor.engine import TrainingBatch
from processor.evaluation.views import image_encoder
from retrieval import FeatureSet, LabelNames, RetrievalTask, TrialRows, have_match, why_no_match
from utils.device import move_module
from utils.distributed import gather_objects, gather_rows, is_first
from utils.precision import Precision
from utils.progress import followed

_QUERIES_AT_ONCE = 32

Record = ImageRecord | CaptionRecord


class ItemBatch(TrainingBatch, Protocol):
    """The part of a batch that extraction needs."""

    @property
    def camids(self) -> Tensor:
        """Cameras (B,)."""
        ...

    @property
    def keys(self) -> Sequence[str]:
        """B keys, which name the items."""
        ...

    def to(self, device: torch.device) -> "ItemBatch":
        """The batch on another device."""
        ...


@torch.no_grad()
def extract(
    model: nn.Module,
    loader: Iterable[ItemBatch],
    device: torch.device,
    encode: Callable[[Any], Tensor] | None = None,
    *,
    precision: Precision | None = None,
    progress: bool = True,
) -> FeatureSet:
    """Features (N, D) of every item of a loader, float32, on the device, the model in evaluation mode.

    `encode` maps a batch to features (B, D); None is the model's test feature. `precision` None is float32.
    Without `progress` nothing is shown of it, for callers that do so themselves.
    In a run of several processes the loader has this process's share, and all processes get all features.
    Raises ValueError for a loader without items.
    """
    move_module(model, device)
    model.eval()
    precision = precision or Precision(device.type)
    encode = encode or image_encoder(model)
    features, pids, camids, paths, keys = [], [], [], [], []
    for batch in followed(loader, "extract", shown=progress and is_first()):
        batch = batch.to(device)
        with precision.autocast():
            features.append(encode(batch).float())
        pids.append(batch.pids)
        camids.append(batch.camids)
        paths.extend(batch.paths)
        keys.extend(batch.keys)
    width = max(gather_objects(features[0].shape[1] if features else 0))
    if not width:
        raise ValueError("no item to extract features from")
    if not features:  # fewer items than processes
        features = [torch.zeros(0, width, device=device)]
        pids = camids = [torch.zeros(0, dtype=torch.int64, device=device)]
    paths, keys = (list(chain.from_iterable(gather_objects(texts))) for texts in (paths, keys))
    features, pids, camids = (gather_rows(torch.cat(parts)) for parts in (features, pids, camids))
    return FeatureSet(features, pids, camids, paths, keys)


def require_matches(trials: Sequence[Trial]) -> None:
    """Raise ValueError for a trial without a query to score; evaluation would find out after training."""
    for trial in trials:
        if not any(queries_with_match(trial)):
            query, gallery = (_without_features(part, {}) for part in (trial.query, trial.gallery))
            raise ValueError(why_no_match(query, gallery, trial.rule))


def queries_with_match(trial: Trial, pictures: Mapping[str, str] | None = None) -> Iterator[bool]:
    """Whether each query of a trial has a match under the trial's rule, in order.

    `pictures` maps paths to known names of pictures; others that the rule compares are computed from the
    files, for a few queries at a time.
    """
    query, gallery = (_without_features(part, pictures or {}) for part in (trial.query, trial.gallery))
    for first in range(0, len(query), _QUERIES_AT_ONCE):
        some = query.select(range(first, min(first + _QUERIES_AT_ONCE, len(query))))
        candidates = gallery.select(torch.isin(gallery.pids, some.pids))
        yield from have_match(some, candidates, trial.rule).tolist()


def _without_features(records: Sequence[Record], pictures: Mapping[str, str]) -> FeatureSet:
    return FeatureSet(
        torch.zeros(len(records), 0),
        [record.pid for record in records],
        [record.camid for record in records],
        [record.path for record in records],
        [record.key for record in records],
        [pictures.get(record.path, "") for record in records],
    )


def make_task(
    features: FeatureSet, trials: Sequence[Trial], info: Mapping[str, Any], trial_names: Sequence[str] = ()
) -> RetrievalTask:
    """The trials of a data set over one extraction, joined by key, with `info` about model and protocol.

    Trials with `trial_names` are reported by themselves, too. The first process names the pictures that the
    trials' rules compare. Raises ValueError for a key of several features, and for an item that has different
    identities in different roles.
    """
    for key, count in Counter(features.keys).items():
        if count > 1:
            raise ValueError(f"{count} features have the key {key}; allowed: one feature a key")
    row = {key: index for index, key in enumerate(features.keys)}
    pids = features.pids.tolist()
    names = label_names(chain.from_iterable((*trial.query, *trial.gallery) for trial in trials))

    def part(records: Sequence[Record]) -> tuple[Tensor, Tensor]:
        rows = [row[record.key] for record in records]
        for index, record in zip(rows, records, strict=True):
            if record.pid != pids[index]:
                raise ValueError(
                    f"{record.key} has identity {names.identity(record.pid)} and identity"
                    f" {names.identity(pids[index])}; allowed: one"
                )
        # The trial decides which camera an item counts for; the extraction has only its first role.
        return torch.tensor(rows), torch.tensor([record.camid for record in records])

    rows = tuple(
        TrialRows(*part(trial.query), *part(trial.gallery), trial.rule, name)
        for trial, name in zip(trials, trial_names or [""] * len(trials), strict=True)
    )
    task = RetrievalTask(replace(features, names=names), rows, info, names)
    return task.with_pictures() if is_first() else task


def label_names(records: Iterable[Record]) -> LabelNames:
    """The labels of all records as written, of several forms of one label the first, and the captions."""
    identities: dict[int, str] = {}
    cameras: dict[int, str] = {}
    items: dict[str, str] = {}
    for record in records:
        if isinstance(record, CaptionRecord):
            items[record.key] = record.caption
        if record.texts.identity:
            identities.setdefault(record.pid, record.texts.identity)
        if record.texts.camera:
            cameras.setdefault(record.camid, record.texts.camera)
    return LabelNames(identities=identities, cameras=cameras, items=items)
