"""Features of images, and what they are worth: extraction and evaluation over the trials of a data set."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from datasets import Batch, ImageRecord, Trial
from datasets.records import NO_CAMERA
from retrieval import FeatureSet, RetrievalMetrics, evaluate


@torch.no_grad()
def extract(
    model: nn.Module,
    loader: Iterable[Batch],
    device: torch.device,
    encode: Callable[[Batch], Tensor] | None = None,
) -> FeatureSet:
    """Features (N, D) of every image of a loader, on the device, the model in evaluation mode.

    `encode` maps a batch to features (B, D); None is the model's test feature.
    """
    model.to(device).eval()
    encode = encode or (lambda batch: model(batch.images, batch.camids, batch.viewids))
    features, pids, camids, paths = [], [], [], []
    for batch in tqdm(loader, desc="extract", leave=False, disable=None):
        batch = batch.to(device)
        with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
            features.append(encode(batch).float())
        pids.append(batch.pids)
        camids.append(batch.camids)
        paths.extend(batch.paths)
    if not features:
        raise ValueError("no image to extract features from")
    return FeatureSet(torch.cat(features), torch.cat(pids), torch.cat(camids), paths)


def require_matches(trials: Sequence[Trial]) -> None:
    """Raise ValueError for a trial without a query to score; evaluation would find out after training."""
    for trial in trials:
        cameras = defaultdict(set)
        for record in trial.gallery:
            cameras[record.pid].add(record.camid)
        if not any(cameras[query.pid] - ({query.camid} - {NO_CAMERA}) for query in trial.query):
            raise ValueError(
                f"none of the {len(trial.query)} queries has an image of its identity from another camera "
                f"among the {len(trial.gallery)} gallery images"
            )


def evaluate_trials(features: FeatureSet, trials: Sequence[Trial], normalize: bool) -> RetrievalMetrics:
    """Mean metrics over the trials of a data set, all from one extraction.

    `normalize` scales the features to unit length first (FEAT_NORM 'yes').
    """
    features = features.normalized() if normalize else features
    row = {path: index for index, path in enumerate(features.paths)}

    def part(records: Sequence[ImageRecord]) -> FeatureSet:
        rows = torch.tensor([row[record.path] for record in records])
        # A trial says which camera an image counts for; the extraction only knows its first role.
        return FeatureSet(
            features.features[rows.to(features.features.device)],
            torch.tensor([record.pid for record in records]),
            torch.tensor([record.camid for record in records]),
            [record.path for record in records],
        )

    return RetrievalMetrics.mean([evaluate(part(trial.query), part(trial.gallery)) for trial in trials])
