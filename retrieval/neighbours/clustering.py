"""Clusters of images without labels, and their agreement with identities: DBSCAN over Jaccard distances.

Ester, Kriegel, Sander, Xu, *A Density-Based Algorithm for Discovering Clusters*, KDD 1996. scikit-learn takes
a second to import, so functions that use it import it.
"""

from __future__ import annotations

import random
import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from retrieval.distance import check_finite, squared_norms
from retrieval.neighbours.jaccard import check_features, jaccard_graph
from utils.package import require_extra


class Agreement(NamedTuple):
    """Normalised mutual information (0..1) and adjusted Rand index (at most 1, chance is 0)."""

    nmi: float
    ari: float


@torch.no_grad()
def cluster(features: Tensor, *, eps: float = 0.7, min_samples: int = 4, k1: int = 30, k2: int = 6) -> Tensor:
    """Cluster (N,) int64 on the CPU of each row of features (N, D): 0, 1, .. without gaps, -1 for outliers.

    Rows are scaled to norm 1 in float32. Images are neighbours at a Jaccard distance of at most `eps`
    (`jaccard_graph`, whose k1 and k2 these are); one with `min_samples` neighbours, itself included, is the
    core of a cluster. Raises ValueError where `jaccard_graph` does, for an eps that is not between 0 and 1,
    and for min_samples below 1, and MissingExtra without scikit-learn.
    """
    require_extra("cluster")
    state = random.getstate()
    from sklearn.cluster import DBSCAN

    random.setstate(state)  # importing it draws, which a resumed run would do at another time
    if not 0 < eps < 1:
        raise ValueError(f"eps must be above 0 and below 1, got {eps}")
    if min_samples < 1:
        raise ValueError(f"min_samples must be at least 1, got {min_samples}")
    dbscan = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed")
    features = features.float()
    check_features(features)
    # normalize would turn a row whose norm is infinite into zeros.
    check_finite("squared norms of the features", squared_norms(features)[:, None])
    graph = jaccard_graph(F.normalize(features), k1, k2, eps)
    with warnings.catch_warnings():
        # Some versions warn that they sort rows by distance.
        warnings.filterwarnings("ignore", "Precomputed sparse input was not sorted")
        labels = dbscan.fit_predict(graph)
    return torch.from_numpy(labels.astype(np.int64))


def agreement(labels: Tensor | NDArray[np.int64], pids: Tensor | NDArray[np.int64]) -> Agreement | None:
    """How well clusters (N,) agree with identities (N,), over images that have both; None if none has.

    A negative label is an outlier, a negative pid an unknown identity. Raises ValueError when the two are not
    vectors of one length, MissingExtra without scikit-learn.
    """
    require_extra("cluster")
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    labels, pids = (np.asarray(torch.as_tensor(each).cpu()) for each in (labels, pids))
    if labels.ndim != 1 or labels.shape != pids.shape:
        raise ValueError(
            f"labels and pids must be vectors of one length, got shapes {labels.shape} and {pids.shape}"
        )
    both = (labels >= 0) & (pids >= 0)
    if not both.any():
        return None
    return Agreement(
        nmi=float(normalized_mutual_info_score(pids[both], labels[both])),
        ari=float(adjusted_rand_score(pids[both], labels[both])),
    )
