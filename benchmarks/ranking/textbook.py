"""Evaluation and re-ranking as research code writes them: whole matrices, one argsort, a loop over images."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]


def squared_distances(a: Floats, b: Floats) -> Floats:
    """(N, M) of (N, D) and (M, D)."""
    return (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * (a @ b.T)


def evaluate(
    distance: Floats, query_pids: Labels, query_camids: Labels, pids: Labels, camids: Labels
) -> tuple[Floats, float]:
    """CMC up to rank 50 and mAP of distances (Q, G)."""
    order = np.argsort(distance, axis=1)
    matches = pids[order] == query_pids[:, None]
    curves, precisions = [], []
    for i in range(len(distance)):
        removed = matches[i] & (camids[order[i]] == query_camids[i])
        hits = matches[i][~removed]
        if not hits.any():
            continue
        found = hits.cumsum()
        curves.append(found[:50] > 0)
        precisions.append((found / np.arange(1, len(hits) + 1))[hits].mean())
    return np.mean(curves, axis=0), float(np.mean(precisions))


def search(text: Tensor, image: Tensor, text_pids: Tensor, image_pids: Tensor) -> tuple[Floats, float]:
    """CMC up to rank 50 and mAP of images (G, D) for texts (Q, D), with pids (Q,), (G,).

    The whole matrix of cosines is sorted, and precision worked out at every place of every ranking.
    """
    similarity = F.normalize(text) @ F.normalize(image).T
    order = similarity.argsort(dim=1, descending=True)
    matches = image_pids[order] == text_pids[:, None]
    matches = matches[matches.any(dim=1)]
    found = matches.cumsum(dim=1)
    places = torch.arange(1, matches.shape[1] + 1)
    precision = torch.stack([found[:, i] / places[i] for i in range(len(places))], dim=1) * matches
    means = precision.sum(dim=1) / matches.sum(dim=1)
    return (found[:, :50] > 0).float().mean(dim=0).numpy(), means.mean().item()


def rerank(query: Floats, gallery: Floats, k1: int, k2: int, lam: float) -> Floats:
    """k-reciprocal distances (Q, G), Zhong et al. 2017, with V and its sums in float16 as published."""
    distance, encoded = _encode(np.concatenate([query, gallery]), k1, k2)
    queries = len(query)
    return (_jaccard(encoded, queries) * (1 - lam) + distance[:queries] * lam)[:, queries:]


def jaccard(features: Floats, k1: int, k2: int) -> Floats:
    """k-reciprocal Jaccard distances (N, N) of features (N, D), float16."""
    return _jaccard(_encode(features, k1, k2)[1], len(features))


def _encode(features: Floats, k1: int, k2: int) -> tuple[Floats, Floats]:
    """Distances (N, N), each row by its largest, and V (N, N)."""
    count = len(features)
    distance = squared_distances(features, features)
    distance = np.transpose(distance / distance.max(axis=0))
    order = np.argsort(distance).astype(np.int32)
    encoded = np.zeros((count, count), dtype=np.float16)
    half = int(np.around(k1 / 2))
    for i in range(count):
        own = _reciprocal(order, i, k1)
        members = own
        for j in own:
            other = _reciprocal(order, j, half)
            if len(np.intersect1d(other, own)) > 2 / 3 * len(other):
                members = np.append(members, other)
        members = np.unique(members)
        weights = np.exp(-distance[i, members])
        encoded[i, members] = weights / weights.sum()
    if k2 > 1:
        expanded = np.zeros_like(encoded)
        for i in range(count):
            expanded[i] = encoded[order[i, :k2]].mean(axis=0)
        encoded = expanded
    return distance, encoded


def _jaccard(encoded: Floats, rows: int) -> Floats:
    """Jaccard distances (rows, N) of the first rows of V (N, N)."""
    count = len(encoded)
    listed = [np.flatnonzero(encoded[:, j]) for j in range(count)]
    distance = np.zeros((rows, count), dtype=np.float16)
    for i in range(rows):
        overlap = np.zeros(count, dtype=np.float16)
        for j in np.flatnonzero(encoded[i]):
            overlap[listed[j]] += np.minimum(encoded[i, j], encoded[listed[j], j])
        distance[i] = 1 - overlap / (2 - overlap)
    return distance


def _reciprocal(order: NDArray[np.int32], i: int, k: int) -> NDArray[np.int32]:
    forward = order[i, : k + 1]
    return forward[(order[forward, : k + 1] == i).any(axis=1)]
