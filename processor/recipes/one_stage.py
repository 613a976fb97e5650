"""Recipes of one stage on images: the baseline, and PCL-CLIP with identities or with clusters."""

from collections.abc import Callable, Iterator
from typing import cast

from torch import Tensor

from datasets import ImageDataset
from processor.engine import Plan, Stage
from processor.recipes.clusters import ClusterBatches, Clusters
from processor.recipes.graph import with_graph
from processor.recipes.image_objective import ImageObjective, ImageTraining
from processor.recipes.refresh import with_prototypes


def one_stage(name: str, training: ImageTraining, plan: Plan, *, accuracy: bool) -> Iterator[Stage]:
    """One stage over all weights of the model against its loss, with `acc` reported or not."""
    objective = ImageObjective(training.model, training.loss, accuracy=accuracy, teacher=training.teacher)
    train = training.loaders.train
    graph, sampler = with_graph(training.graph, train.batch_sampler)
    objective = with_prototypes(objective, training.loss.memory, training.extract_train, *graph)
    optimizer = plan.make_optimizer(training.model.named_parameters())
    yield Stage(name, objective, train, sampler, optimizer, plan)


def clustered_stage(
    name: str,
    training: ImageTraining,
    plan: Plan,
    cluster: Callable[[Tensor], Tensor],
) -> Iterator[Stage]:
    """One stage without identities: clusters, found before every epoch, and their prototypes.

    Args:
        cluster: features (N, D) to labels (N,); -1 means no cluster.
    """
    loaders = training.loaders
    images = cast(ImageDataset, loaders.plain.dataset)
    keys = [record.key for record in images.records]
    # One cluster gives nothing to compare with.
    clusters = Clusters(cluster, count=len(keys), fewest=max(2, loaders.order.num_pids))
    objective = ImageObjective(training.model, training.loss, accuracy=False, teacher=training.teacher)
    objective = with_prototypes(objective, training.loss.memory, training.extract_train, clusters)
    batches = ClusterBatches(loaders.train, loaders.order, clusters, keys)
    optimizer = plan.make_optimizer(training.model.named_parameters())
    yield Stage(name, objective, batches, batches, optimizer, plan, may_skip=True)
