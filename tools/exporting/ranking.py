"""Test splits, and their rankings by an exported graph."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from config.load import load_config
from datasets import (
    CaptionBatch,
    CaptionDataset,
    ImageBatch,
    ImageDataset,
    PixelTransform,
    ReIDDataset,
    collate,
    collate_captions,
)
from model import (
    CheckpointInfo,
    DualModel,
    Graph,
    ReIDModel,
    TextSearchInfo,
    Tokenizer,
    client_statistics,
    image_graph,
    text_graph,
)
from processor import METHODS, extract, make_task, read_test_data
from retrieval import FeatureSet, evaluate_task
from utils.device import select_device

Run = Callable[[Sequence[Tensor]], np.ndarray]
_BATCH = 32


def read_split(named: str, *, text_search: bool) -> ReIDDataset | CaptionDataset:
    """The test split of a data set NAME, or NAME=ROOT_DIR: captions for `text_search`, else identities.

    Raises ValueError or FileNotFoundError for what cannot be read or has no query to score.
    """
    name, _, root = named.partition("=")
    method = METHODS["tbps" if text_search else "clipreid"]
    pairs = ["DATASETS.NAMES", name, *(["DATASETS.ROOT_DIR", root] if root else [])]
    return read_test_data(load_config(method.tree, "", pairs), method)


def map_by(
    graph: Graph,
    model: ReIDModel | DualModel,
    info: CheckpointInfo | TextSearchInfo,
    dataset: ReIDDataset | CaptionDataset,
) -> Callable[[Run | None], float]:
    """A function from a way to run a graph of a model to mAP, 0 to 1, on a test split; None is torch.

    The graph of one side of a text search model is compared with torch's features of the other side. Raises
    ValueError for a text search model without captions, and for captions with another one.
    """
    if isinstance(model, DualModel) != isinstance(dataset, CaptionDataset):
        needed = "captions" if isinstance(model, DualModel) else "images with identities"
        raise ValueError(f"data is {dataset.name}; allowed for this model: a data set of {needed}")
    kind = graph.facts["kind"]
    pixels = graph.facts["input"] if kind == "image" else "normalised"
    graphs = {"image": graph if kind == "image" else image_graph(model, info, pixels)}
    images = ImageDataset(
        dataset.test_records(), info.size, interpolation=info.resize, upright=dataset.upright
    )
    stack = functools.partial(collate, pixels=PixelTransform(*client_statistics(pixels, info)))
    loaders = {"image": DataLoader(images, _BATCH, collate_fn=stack)}
    if isinstance(dataset, CaptionDataset):
        graphs["text"] = graph if kind == "text" else text_graph(model, info)
        loaders["text"] = DataLoader(dataset.test_captions(), _BATCH, collate_fn=collate_captions)

    tokenize = model.encode_text.tokenizer if isinstance(model, DualModel) else None

    def features(side: str, run: Run | None = None) -> FeatureSet:
        module = graphs[side].module

        def encode(batch: ImageBatch | CaptionBatch) -> Tensor:
            inputs = _inputs(batch, graphs[side].inputs, tokenize)
            return module(*inputs) if run is None else torch.from_numpy(run(inputs))

        return extract(module, loaders[side], select_device("cpu"), encode)

    others = [features(side) for side in graphs if side != kind]

    def measure(run: Run | None) -> float:
        found = FeatureSet.concat([features(kind, run), *others])
        return evaluate_task(make_task(found, dataset.trials, {}).normalized()).mAP

    return measure


def _inputs(
    batch: ImageBatch | CaptionBatch, names: Sequence[str], tokenize: Tokenizer | None
) -> tuple[Tensor, ...]:
    if isinstance(batch, CaptionBatch) and tokenize is not None:
        return tokenize(batch.captions)[:1]
    named = {"camera_label": batch.camids, "view_label": batch.viewids}
    return batch.images, *(named[name] for name in names[1:])
