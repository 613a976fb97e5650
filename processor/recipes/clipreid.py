"""CLIP-ReID in two stages: a prompt for every identity, then the image tower against these texts.

Li, Sun, Li, AAAI 2023, section 3 and algorithm 1.
"""

import logging
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from model import ReIDModel
from processor.engine import Plan, Stage
from processor.evaluation import extract
from processor.recipes.graph import GraphPlan, with_graph
from processor.recipes.image_objective import ImageObjective, ImageTraining
from processor.recipes.prompt_stage import CachedFeatures, OnlinePromptObjective, PromptObjective
from processor.recipes.refresh import with_parts, with_prototypes
from utils.device import move_module

_logger = logging.getLogger("transreid.train")
_TEXTS_AT_ONCE = 64


@torch.no_grad()
def encode_identities(model: ReIDModel) -> Tensor:
    """Text features (C, P) of the learned prompts of all identities."""
    pids = torch.arange(model.num_classes, device=model.prompt_learner.cls_ctx.device)
    return torch.cat([model.encode_prompts(part) for part in pids.split(_TEXTS_AT_ONCE)])


def clipreid(
    training: ImageTraining,
    prompt_plan: Plan | None,
    image_plan: Plan,
    *,
    seed: int,
    half_features: bool = False,
    online: bool = False,
) -> Iterator[Stage]:
    """Both stages, as a generator: stage 2 needs the prompts that stage 1 has learned.

    Args:
        prompt_plan: plan of stage 1; None when the model's prompts have been learned.
        seed: determines the order of stage 1.
        half_features: keep stage 1's image features in half precision.
        online: stage 1 computes the image features of every step.

    What a stage trains is up to the plan's `make_optimizer`, which gets all parameters.
    """
    model = training.model
    if prompt_plan is not None:
        yield _prompt_stage(training, prompt_plan, seed, half_features, online=online)

    move_module(model, training.device)
    texts = encode_identities(model)
    objective = ImageObjective(model, training.loss, texts, teacher=training.teacher)
    train = training.loaders.train
    graph, sampler = with_graph(training.graph, train.batch_sampler, lambda: texts, fixed="text")
    yield Stage(
        "stage2",
        with_prototypes(objective, training.loss.memory, training.extract_train, *graph),
        train,
        sampler,
        image_plan.make_optimizer(model.named_parameters()),
        image_plan,
    )


def _prompt_stage(
    training: ImageTraining, plan: Plan, seed: int, half_features: bool, *, online: bool
) -> Stage:
    model, shuffled = training.model, training.loaders.shuffled
    if online and shuffled is not None:
        objective, loader, sampler = OnlinePromptObjective(model), shuffled, shuffled.batch_sampler
    else:
        loader = _cache_features(training, plan.batch_size, seed, half_features)
        objective = PromptObjective(model, capture=_numbers_of_labels(loader, training.prompt_graph))
        texts = partial(_encode_in_evaluation, model)
        graph, sampler = with_graph(training.prompt_graph, loader, texts, fixed="image")
        objective = with_parts(objective, loader.as_feature_set, graph)
    optimizer = plan.make_optimizer(model.named_parameters())
    return Stage("stage1", objective, loader, sampler, optimizer, plan, suffix="_stage1")


def _cache_features(
    training: ImageTraining, batch_size: int, seed: int, half_features: bool
) -> CachedFeatures:
    # In evaluation mode and without side information: prompts describe identities.
    images = extract(
        training.model,
        training.loaders.plain,
        training.device,
        lambda batch: training.model.encode_image(batch.images),
        precision=training.precision,
    )
    _logger.info("stage 1 learns from %d cached image features", len(images))
    features = images.features.half() if half_features else images.features
    graph = training.prompt_graph
    sampler = None if graph is None else graph.sampler
    return CachedFeatures(features, images.pids, batch_size, seed, images.paths, sampler)


def _numbers_of_labels(loader: CachedFeatures, graph: GraphPlan | None) -> tuple[int, ...]:
    """Labels of full batches: of the random ones, of those by a graph, or of both in turn."""
    if graph is None:
        return (loader.num_labels,)
    return (graph.sampler.num_pids, *([loader.num_labels] if graph.after else []))


def _encode_in_evaluation(model: ReIDModel) -> Tensor:
    """Text features (C, P) as they are before an epoch; training mode comes back with it."""
    model.eval()
    return encode_identities(model)
