"""PCL-CLIP without identities: before each epoch images are clustered, and clusters take the pids' place.

Li, Gong, arXiv 2310.17218, 2023, section III; clusters as in Cluster Contrast (Dai et al., ACCV 2022).
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from datasets import LoadedBatch
from processor.recipes.image_objective import ImageLoader, Order
from processor.recipes.refresh import Images, Renewed
from retrieval import agreement
from utils.distributed import from_first, is_first

_logger = logging.getLogger("transreid.train")
_SUMMARY = ("clusters", "outliers", "nmi", "ari")


class Clusters(Renewed):
    """Clusters of the training images, found again before every epoch.

    `labels` (N,) are the clusters, -1 for outliers and before the first clustering. Where an epoch finds too
    few clusters, those of the epoch before stay. Reports the number of `clusters` and `outliers`, and their
    agreement with the true identities, `nmi` and `ari`, where these are known.

    Args:
        cluster: features (N, D) to labels (N,); -1 means no cluster.
        count: number of images N.
        fewest: clusters that an epoch needs.
    """

    labels: Tensor
    summary: Tensor

    def __init__(self, cluster: Callable[[Tensor], Tensor], *, count: int, fewest: int) -> None:
        super().__init__()
        self.cluster, self.fewest = cluster, fewest
        self.register_buffer("labels", torch.full((count,), -1))
        self.register_buffer("summary", torch.full((len(_SUMMARY),), math.nan))

    def renew(self, epoch: int, images: Images) -> Images:
        """Cluster all images; the next part sees clusters as pids."""
        found = images()
        # One process decides: on several devices the last bits of distances may differ.
        labels = from_first(self.cluster(found.features).cpu() if is_first() else None)
        clusters = int(labels.max()) + 1
        if clusters >= self.fewest:
            self.labels.copy_(labels)
        self._summarise(epoch, labels, clusters, found.pids.cpu())
        seen = dataclasses.replace(found, pids=self.labels)
        return lambda: seen

    def report(self) -> dict[str, Tensor]:
        """The summary of this epoch's clustering."""
        return dict(zip(_SUMMARY, self.summary, strict=True))

    def _summarise(self, epoch: int, labels: Tensor, clusters: int, pids: Tensor) -> None:
        outliers, agreed = int((labels < 0).sum()), agreement(labels, pids)
        nmi, ari = (math.nan, math.nan) if agreed is None else agreed
        self.summary.copy_(torch.tensor([clusters, outliers, nmi, ari]))
        known = "" if agreed is None else f"; agreement with the identities: NMI {nmi:.3f}, ARI {ari:.3f}"
        _logger.info(
            "Epoch %d: %d clusters, %d outliers of %d images%s", epoch, clusters, outliers, len(labels), known
        )
        if clusters < self.fewest:
            kept = "the clusters before stay" if int(self.labels.max()) >= 0 else "nothing is learned in it"
            _logger.warning(
                "Epoch %d has %d clusters; needed: %d or more, as many as a batch has identities; %s. Change "
                "eps or min_samples of the clustering, or make batches smaller",
                epoch,
                clusters,
                self.fewest,
                kept,
            )


class ClusterBatches:
    """The batches of a loader with clusters as pids; none before there are clusters.

    Args:
        loader: the loader of the training images.
        order: the sampler in it that draws identities; it gets the clusters before each epoch.
        clusters: the clusters of the N training images.
        keys: keys of these images, in the order of the clusters' labels.
    """

    def __init__(self, loader: ImageLoader, order: Order, clusters: Clusters, keys: Sequence[str]) -> None:
        self.loader, self.order, self.clusters = loader, order, clusters
        self._rows = {key: row for row, key in enumerate(keys)}
        if len(self._rows) < len(keys):
            raise ValueError(f"{len(keys) - len(self._rows)} of {len(keys)} training keys are repeated")
        self._labels: list[int] = []

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Take the clusters as they are now; the next pass is that of this epoch, from batch `start` on."""
        self._labels = self.clusters.labels.tolist()
        if self._has_clusters():
            self.order.set_pids(self._labels)
            self.loader.batch_sampler.set_epoch(epoch, start)

    def _has_clusters(self) -> bool:
        return max(self._labels, default=-1) >= 0

    def __len__(self) -> int:
        return len(self.loader) if self._has_clusters() else 0

    def __iter__(self) -> Iterator[LoadedBatch]:
        return map(self._relabelled, iter(self.loader)) if self._has_clusters() else iter(())

    def _relabelled(self, batch: LoadedBatch) -> LoadedBatch:
        return batch.replace(pids=torch.tensor([self._labels[self._rows[key]] for key in batch.keys]))
