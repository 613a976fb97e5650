"""Features of images, and the retrieval task that a data set's trials make of them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from datasets import ImageBatch, ImageRecord, LoadedBatch, Trial
from retrieval import FeatureSet, RetrievalTask, TrialRows
from utils.device import move_module
from utils.distributed import gather_objects, gather_rows, is_first
from utils.labels import NO_CAMERA
from utils.precision import Precision


@torch.no_grad()
def extract(
    model: nn.Module,
    loader: Iterable[LoadedBatch | ImageBatch],
    device: torch.device,
    encode: Callable[[ImageBatch], Tensor] | None = None,
    *,
    precision: Precision | None = None,
) -> FeatureSet:
    """Features (N, D) of every image of a loader, float32, on the device, the model in evaluation mode.

    `encode` maps a batch to features (B, D); None is the model's test feature. `precision` None is float32.
    In a run of several processes the loader has this process's share, and all processes get all features.
    Raises ValueError when there is no image.
    """
    move_module(model, device)
    model.eval()
    precision = precision or Precision(device.type)
    encode = encode or (lambda batch: model(batch.images, batch.camids, batch.viewids))
    features, pids, camids, paths = [], [], [], []
    for batch in tqdm(loader, desc="extract", leave=False, disable=None if is_first() else True):
        batch = batch.to(device)
        with precision.autocast():
            features.append(encode(batch).float())
        pids.append(batch.pids)
        camids.append(batch.camids)
        paths.extend(batch.paths)
    width = max(gather_objects(features[0].shape[1] if features else 0))
    if not width:
        raise ValueError("no image to extract features from")
    if not features:  # fewer images than processes
        features = [torch.zeros(0, width, device=device)]
        pids = camids = [torch.zeros(0, dtype=torch.int64, device=device)]
    all_rows = (gather_rows(torch.cat(parts)) for parts in (features, pids, camids))
    return FeatureSet(*all_rows, list(chain.from_iterable(gather_objects(paths))))


def require_matches(trials: Sequence[Trial]) -> None:
    """Raise ValueError for a trial without a query to score; evaluation would find out after training."""
    for trial in trials:
        places = defaultdict(set)
        for record in trial.gallery:
            places[record.pid].add(_place(record))
        if not any(places[query.pid] - {_place(query)} for query in trial.query):
            raise ValueError(
                f"none of the {len(trial.query)} queries has an image of its identity from another camera "
                f"among the {len(trial.gallery)} gallery images"
            )


def _place(record: ImageRecord) -> int | str:
    """What removes an image of its pid from a ranking: the same camera, or without one the same image."""
    return record.path if record.camid == NO_CAMERA else record.camid


def make_task(features: FeatureSet, trials: Sequence[Trial], info: Mapping[str, Any]) -> RetrievalTask:
    """The trials of a data set over one extraction, with `info` about model and protocol.

    Raises ValueError for an image that has different identities in different roles.
    """
    row = {path: index for index, path in enumerate(features.paths)}
    pids = features.pids.tolist()

    def part(records: Sequence[ImageRecord]) -> tuple[Tensor, Tensor]:
        rows = [row[record.path] for record in records]
        for index, record in zip(rows, records, strict=True):
            if record.pid != pids[index]:
                raise ValueError(
                    f"{record.path} has identity {record.pid} and identity {pids[index]}; allowed: one"
                )
        # A trial says which camera an image counts for; the extraction only knows its first role.
        return torch.tensor(rows), torch.tensor([record.camid for record in records])

    rows = tuple(TrialRows(*part(trial.query), *part(trial.gallery)) for trial in trials)
    return RetrievalTask(features, rows, info)
