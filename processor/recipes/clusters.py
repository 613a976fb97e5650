"""PCL-CLIP without identities: before each epoch images are clustered, and clusters are what is told apart.

Li, Gong, arXiv 2310.17218, 2023, section III; clusters as in Cluster Contrast (Dai et al., ACCV 2022).
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datasets import LoadedBatch, RandomIdentitySampler
from loss import ReIDLoss
from model import ReIDModel
from processor.engine.objective import Objective, Step, TrainingBatch
from processor.engine.stage import Plan, Stage
from processor.recipes.pcl import PrototypeObjective
from processor.recipes.prototypes import log_memory
from retrieval import FeatureSet, agreement
from utils.distributed import from_first, is_first
from utils.precision import Precision

_logger = logging.getLogger("transreid.train")
_TOLD = ("clusters", "outliers", "nmi", "ari")


class ClusterObjective(Objective):
    """Prototypes of clusters, which are found anew before every epoch.

    `labels` (N,) are the clusters of the training images, -1 for outliers and before the first clustering.
    Where an epoch finds too few clusters, those of the epoch before stay. Reports the number of `clusters`
    and `outliers`, and their agreement with the true identities, `nmi` and `ari`, where these are known.

    Args:
        objective: what is minimised; its loss has a memory.
        features: gives the features after the neck of all N training images, with their true identities.
        cluster: features (N, D) to labels (N,), of which -1 means none.
        count: N.
        fewest: clusters that an epoch needs.
    """

    def __init__(
        self,
        objective: PrototypeObjective,
        features: Callable[[], FeatureSet],
        cluster: Callable[[Tensor], Tensor],
        *,
        count: int,
        fewest: int,
    ) -> None:
        super().__init__()
        self.objective, self.features, self.cluster, self.fewest = objective, features, cluster, fewest
        self.register_buffer("labels", torch.full((count,), -1))
        self.register_buffer("told", torch.full((len(_TOLD),), math.nan))

    def prepare(self, precision: Precision) -> None:
        """As the objective does."""
        self.objective.prepare(precision)

    def begin_epoch(self, epoch: int) -> None:
        """Cluster all training images, and make the clusters' means the prototypes."""
        images = self.features()
        # One process decides: on several devices the last bits of distances may differ.
        labels = from_first(self.cluster(images.features).cpu() if is_first() else None)
        clusters = int(labels.max()) + 1
        if clusters >= self.fewest:
            self.labels.copy_(labels)
        self._tell(epoch, labels, clusters, images.pids.cpu())
        memory = self.objective.loss.memory
        memory.rebuild(images.features, self.labels)
        log_memory(memory)
        self.train()

    def _tell(self, epoch: int, labels: Tensor, clusters: int, pids: Tensor) -> None:
        outliers, agreed = int((labels < 0).sum()), agreement(labels, pids)
        nmi, ari = (math.nan, math.nan) if agreed is None else agreed
        self.told.copy_(torch.tensor([clusters, outliers, nmi, ari]))
        known = "" if agreed is None else f"; agreement with the identities: NMI {nmi:.3f}, ARI {ari:.3f}"
        _logger.info(
            "Epoch %d: %d clusters, %d outliers of %d images%s", epoch, clusters, outliers, len(labels), known
        )
        if clusters < self.fewest:
            instead = (
                "the clusters before stay" if int(self.labels.max()) >= 0 else "nothing is learned in it"
            )
            _logger.warning(
                "Epoch %d has %d clusters; needed: %d or more, as many as a batch has identities; %s. Change "
                "CLUSTER.EPS or CLUSTER.MIN_SAMPLES, or make batches smaller",
                epoch,
                clusters,
                self.fewest,
                instead,
            )

    def forward(self, batch: TrainingBatch) -> Step:
        """Losses of one batch with clusters as identities."""
        step = self.objective(batch)
        return step._replace(report=step.report | dict(zip(_TOLD, self.told, strict=True)))

    def after_step(self) -> None:
        """Move the prototypes."""
        self.objective.after_step()


class ClusterBatches:
    """The batches of a loader with clusters in place of identities; none before there are clusters.

    Args:
        loader: the batches.
        order: the loader's sampler of identities, which gets the clusters before each epoch.
        objective: has the clusters.
        paths: of the N training images, in the order of its labels.
    """

    def __init__(
        self,
        loader: DataLoader,
        order: RandomIdentitySampler,
        objective: ClusterObjective,
        paths: Sequence[str],
    ) -> None:
        self.loader, self.order, self.objective = loader, order, objective
        self._rows = {path: row for row, path in enumerate(paths)}
        self._labels: list[int] = []

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Take the clusters as they are now; the next pass is that of this epoch, from batch `start` on."""
        self._labels = self.objective.labels.tolist()
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
        return batch.replace(pids=torch.tensor([self._labels[self._rows[path]] for path in batch.paths]))


def pcl_clusters(
    model: ReIDModel,
    loss: ReIDLoss,
    train: DataLoader,
    plan: Plan,
    features: Callable[[], FeatureSet],
    *,
    order: RandomIdentitySampler,
    cluster: Callable[[Tensor], Tensor],
    paths: Sequence[str],
) -> Iterator[Stage]:
    """The recipe of `train_pcl.py` without identities: one stage.

    Args:
        order: the sampler of `train`, whose identities are the clusters.
        cluster: features (N, D) to labels (N,), of which -1 means none.
        paths: of the N training images, in the order of `features`.
    """
    objective = ClusterObjective(
        PrototypeObjective(model, loss),
        features,
        cluster,
        count=len(paths),
        fewest=max(2, order.num_pids),  # one cluster is nothing to tell apart
    )
    batches = ClusterBatches(train, order, objective, paths)
    optimizer = plan.make_optimizer(model.named_parameters())
    yield Stage("pcl", objective, batches, batches, optimizer, plan, may_skip=True)
