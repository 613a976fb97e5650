"""Batches of identities that are hard to tell apart, by a graph of their features (Liao, Shao, CVPR 2022)."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets import GraphSampler
from processor.engine import EpochSampler
from processor.recipes.refresh import Images, Renewed
from retrieval import FeatureSet
from utils.distributed import from_first, is_first

_logger = logging.getLogger("transreid.train")


@dataclass(frozen=True)
class GraphPlan:
    """The graph that draws a stage's batches.

    Args:
        sampler: draws images of identities and of those nearest to them.
        features: of identities: 'text', 'image' (means over their images) or 'both', side by side.
        distance: 'cosine' or 'dot'.
        every: epochs from one building to the next.
        after: epochs before the first.
    """

    sampler: GraphSampler
    features: str
    distance: str = "cosine"
    every: int = 1
    after: int = 0


class IdentityGraph(Renewed):
    """Neighbours (C, P - 1) of identities, and `counts` (C,) of the images that each has handed out before.

    Neighbours are -1 before the first building. These buffers are the whole state of the plan's sampler at
    the start of an epoch.

    Args:
        plan: whose sampler is brought to that state.
        texts: gives text features (C, P) of the identities for an epoch, for 'text' and 'both'.
        fixed: 'text' or 'image', those that do not change: a graph of them alone is built once.
    """

    neighbours: Tensor
    counts: Tensor

    def __init__(
        self, plan: GraphPlan, texts: Callable[[int], Tensor] | None = None, *, fixed: str = ""
    ) -> None:
        super().__init__()
        self.plan, self.texts, self.sampler = plan, texts, plan.sampler
        self._once = plan.features == fixed
        classes = self.sampler.num_classes
        self.register_buffer("neighbours", torch.full((classes, self.sampler.num_pids - 1), -1))
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64))

    def restore(self) -> None:
        """Bring the sampler to the start of the epoch that these buffers are of."""
        neighbours, counts = (each.cpu().numpy().copy() for each in (self.neighbours, self.counts))
        self.sampler.set_state(neighbours if neighbours[0, 0] >= 0 else None, counts)

    @torch.no_grad()
    def renew(self, epoch: int, images: Images) -> Images:
        """Let identities go on where the epoch before has ended; build the graph where it is due."""
        self.restore()
        self.sampler.set_epoch(epoch - 1)
        if self._is_due(epoch):
            self._build(epoch, images)
        self.sampler.set_epoch(epoch)
        self.counts.copy_(torch.from_numpy(self.sampler.counts))
        if self.sampler.neighbours is not None:
            self.neighbours.copy_(torch.from_numpy(self.sampler.neighbours))
        return images

    def _is_due(self, epoch: int) -> bool:
        since = epoch - 1 - self.plan.after
        if since < 0 or self.sampler.neighbours is None:
            return since >= 0
        return not self._once and since % self.plan.every == 0

    def _build(self, epoch: int, images: Images) -> None:
        started, former, built = time.perf_counter(), self.sampler.neighbours, None
        found = images() if self.plan.features != "text" else None  # by all processes together
        if is_first():  # which decides: on several devices the last bits of distances may differ
            self.sampler.set_features(self._features(found, epoch), self.plan.distance)
            built = self.sampler.neighbours
        neighbours: np.ndarray = from_first(built)
        self.sampler.neighbours = neighbours
        changed = "" if former is None else f"; {_changed(former, neighbours):.1%} of the neighbours are new"
        _logger.info(
            "Epoch %d: a graph of %d identities by %s was built in %.2f s%s%s",
            epoch,
            len(neighbours),
            {"both": "text and image"}.get(self.plan.features, self.plan.features),
            time.perf_counter() - started,
            changed,
            ", and stays: these features do not change" if self._once else "",
        )

    def _features(self, images: FeatureSet | None, epoch: int) -> Tensor:
        """(C, D) of the identities."""
        kinds = [] if self.texts is None or self.plan.features == "image" else [self.texts(epoch).float()]
        if images is not None:
            kinds.append(class_means(images.features, images.pids, self.sampler.num_classes))
        return kinds[0] if len(kinds) == 1 else torch.cat([F.normalize(kind) for kind in kinds], dim=1)


def with_graph(
    plan: GraphPlan | None,
    sampler: EpochSampler,
    texts: Callable[[int], Tensor] | None = None,
    *,
    fixed: str = "",
) -> tuple[list[Renewed], EpochSampler]:
    """What a stage with this plan renews before an epoch, and what sets the epochs of `sampler`.

    `sampler` is the stage's, with the plan's inside; `texts` and `fixed` are those of `IdentityGraph`.
    Without a plan nothing is renewed.
    """
    if plan is None:
        return [], sampler
    graph = IdentityGraph(plan, texts, fixed=fixed)
    return [graph], GraphEpochs(graph, sampler)


class GraphEpochs:
    """Sets the epochs of a sampler that draws from a graph, which are told by the graph's buffers."""

    def __init__(self, graph: IdentityGraph, sampler: EpochSampler) -> None:
        self.graph, self.sampler = graph, sampler

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Make the next pass the one of this epoch, from batch `start` on."""
        self.graph.restore()
        self.sampler.set_epoch(epoch, start)


def class_means(features: Tensor, pids: Tensor, classes: int) -> Tensor:
    """Means (C, D) of the normalised features (N, D) of each identity; pids (N,) below 0 are left out."""
    known = pids >= 0
    unit, pids = F.normalize(features[known].float()), pids[known]
    sums = unit.new_zeros(classes, unit.shape[1]).index_add_(0, pids, unit)
    return sums / torch.bincount(pids, minlength=classes)[:, None]


def _changed(former: np.ndarray, neighbours: np.ndarray) -> float:
    """The share of neighbours (C, P - 1) that their class did not have before."""
    first = np.arange(len(former))[:, None] * len(former)
    return 1 - float(np.isin(first + neighbours, first + former).mean())
