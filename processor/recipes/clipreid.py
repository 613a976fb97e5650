"""CLIP-ReID in two stages: a prompt for every identity, then the image tower against these texts.

Li, Sun, Li, AAAI 2023, section 3 and algorithm 1.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor

from datasets import DescribedImages, ImageDataset
from model import ReIDModel
from processor.engine import Plan, Stage
from processor.evaluation import extract
from processor.recipes.captions import (
    CaptionedTexts,
    CaptionObjective,
    DescribedBatches,
    DrawnTexts,
    ImageCaptions,
    encode_sentences,
    note_cut_captions,
)
from processor.recipes.graph import GraphPlan, with_graph
from processor.recipes.image_objective import ImageLoader, ImageObjective, ImageTraining
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


@dataclass(frozen=True)
class CaptionUse:
    """What the stages do with captions of training images.

    Args:
        images: captions by key, and the loader of stage 0.
        plan: of stage 0; None when there is none, or when it is done.
        temperature, identity_targets: of stage 0, see `CaptionObjective`.
        trains_words: the words of the prompts come from a table that stage 0 trains.
        in_prompts: stage 1 matches images that have captions with one of them.
        probability, every: of captions as texts of identities in stage 2, see `DrawnTexts`.
    """

    images: DescribedImages
    plan: Plan | None = None
    temperature: float = 0.07
    identity_targets: bool = False
    trains_words: bool = False
    in_prompts: bool = False
    probability: float = 0.0
    every: int = 10


def clipreid(  # noqa: PLR0913
    training: ImageTraining,
    prompt_plan: Plan | None,
    image_plan: Plan,
    *,
    seed: int,
    half_features: bool = False,
    online: bool = False,
    captions: CaptionUse | None = None,
) -> Iterator[Stage]:
    """All stages, as a generator: stage 2 needs the prompts that stage 1 has learned.

    Args:
        prompt_plan: plan of stage 1; None when the model's prompts have been learned.
        seed: determines the order of stage 1.
        half_features: keep stage 1's image features in half precision.
        online: stage 1 computes the image features of every step.
        captions: captions of training images and what they are for, or None.

    What a stage trains is up to the plan's `make_optimizer`, which gets all parameters.
    """
    model = training.model
    if captions is not None:
        note_cut_captions(model, captions.images.captions)
    if captions is not None and captions.plan is not None:
        yield _caption_stage(model, captions, captions.plan, seed)
    if captions is not None and captions.trains_words:
        model.refresh_prompts()
    if prompt_plan is not None:
        yield _prompt_stage(training, prompt_plan, seed, half_features, online=online, captions=captions)

    move_module(model, training.device)
    texts = encode_identities(model)
    draw, near = None, lambda epoch: texts
    if captions is not None and captions.probability:
        of_images, pids = _training_captions(training, captions, seed)
        how = {"probability": captions.probability, "every": captions.every}
        draw = DrawnTexts(model, texts, of_images, pids, **how)
        near = CaptionedTexts(model, lambda: texts, of_images, pids)
    objective = ImageObjective(model, training.loss, texts, teacher=training.teacher, draw_texts=draw)
    train = training.loaders.train
    graph, sampler = with_graph(training.graph, train.batch_sampler, near, fixed="" if draw else "text")
    yield Stage(
        "stage2",
        with_prototypes(objective, training.loss.memory, training.extract_train, *graph),
        train,
        sampler,
        image_plan.make_optimizer(model.named_parameters()),
        image_plan,
    )


def _caption_stage(model: ReIDModel, captions: CaptionUse, plan: Plan, seed: int) -> Stage:
    loader = captions.images.loader
    if loader is None:
        raise ValueError("images have no loader; stage 0 needs one")
    batches = DescribedBatches(cast(ImageLoader, loader), captions.images.captions, seed)
    objective = CaptionObjective(model, captions.temperature, identity_targets=captions.identity_targets)
    optimizer = plan.make_optimizer(model.named_parameters())
    return Stage("stage0", objective, batches, batches, optimizer, plan, suffix="_stage0")


def _training_captions(
    training: ImageTraining, captions: CaptionUse, seed: int
) -> tuple[ImageCaptions, Tensor]:
    """The captions of all training images, and the pids (N,) of these."""
    records = cast(ImageDataset, training.loaders.plain.dataset).records
    of_images = ImageCaptions([record.key for record in records], captions.images.captions, seed)
    return of_images, torch.tensor([record.pid for record in records])


def _prompt_stage(
    training: ImageTraining,
    plan: Plan,
    seed: int,
    half_features: bool,
    *,
    online: bool,
    captions: CaptionUse | None,
) -> Stage:
    model, shuffled = training.model, training.loaders.shuffled
    if online and shuffled is not None:
        objective, loader, sampler = OnlinePromptObjective(model), shuffled, shuffled.batch_sampler
    else:
        used = captions if captions is not None and captions.in_prompts else None
        loader = _cache_features(training, plan.batch_size, seed, half_features, used)
        objective = PromptObjective(model, capture=_numbers_of_labels(loader, training.prompt_graph))
        near = prompts = partial(_encode_in_evaluation, model)
        if loader.captions is not None:
            near = CaptionedTexts(model, prompts, loader.captions, loader.pids)
        graph, sampler = with_graph(training.prompt_graph, loader, near, fixed="image")
        objective = with_parts(objective, loader.as_feature_set, graph)
    optimizer = plan.make_optimizer(model.named_parameters())
    return Stage("stage1", objective, loader, sampler, optimizer, plan, suffix="_stage1")


def _cache_features(
    training: ImageTraining, batch_size: int, seed: int, half_features: bool, captions: CaptionUse | None
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
    cached = partial(CachedFeatures, features, images.pids, batch_size, seed, images.paths, sampler)
    if captions is None:
        return cached()
    of_images = ImageCaptions(images.keys, captions.images.captions, seed)
    texts = None
    if not training.model.prompt_in_captions:  # nothing in them learns
        texts = encode_sentences(training.model, of_images.texts)
        texts = texts.half() if half_features else texts
    return cached(of_images, texts)


def _numbers_of_labels(loader: CachedFeatures, graph: GraphPlan | None) -> tuple[int, ...]:
    """Labels of full batches: of the random ones, of those by a graph, or of both in turn."""
    if graph is None:
        return (loader.num_labels,)
    return (graph.sampler.num_pids, *([loader.num_labels] if graph.after else []))


def _encode_in_evaluation(model: ReIDModel, epoch: int = 0) -> Tensor:
    """Text features (C, P) as they are before an epoch; training mode comes back with it."""
    model.eval()
    return encode_identities(model)
