"""CLIP-ReID in two stages: a prompt for every identity, then the image tower against these texts.

Li, Sun, Li, AAAI 2023, section 3 and algorithm 1.
"""

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from model import ReIDModel
from processor.engine import Plan, Stage
from processor.evaluation import extract
from processor.recipes.image_objective import ImageObjective, ImageTraining
from processor.recipes.prompt_stage import CachedFeatures, PromptObjective
from processor.recipes.refresh import with_prototypes
from utils.device import move_module

_logger = logging.getLogger("transreid.train")
_PROMPTS, _TEXT_TOWER = "prompt_learner.", "text_encoder."
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
    train_text: bool = False,
) -> Iterator[Stage]:
    """Both stages, as a generator: stage 2 needs the prompts that stage 1 has learned.

    Args:
        prompt_plan: plan of stage 1; None when the model's prompts have been learned.
        seed: determines the order of stage 1.
        half_features: keep stage 1's image features in half precision.
        train_text: stage 1 also trains the text tower, which is frozen otherwise.
    """
    model = training.model
    if prompt_plan is not None:
        cached = _cache_features(training, prompt_plan.batch_size, seed, half_features)
        learning = (_PROMPTS, _TEXT_TOWER) if train_text else (_PROMPTS,)
        model.text_encoder.requires_grad_(train_text)
        yield Stage(
            "stage1",
            PromptObjective(model, capture=cached.num_labels),
            cached,
            cached,
            prompt_plan.make_optimizer((n, p) for n, p in model.named_parameters() if n.startswith(learning)),
            prompt_plan,
            suffix="_stage1",
        )
        del cached  # stage 2 needs the memory
        model.text_encoder.requires_grad_(False)

    move_module(model, training.device)
    objective = ImageObjective(model, training.loss, encode_identities(model))
    image_side = ((n, p) for n, p in model.named_parameters() if not n.startswith((_PROMPTS, _TEXT_TOWER)))
    yield Stage(
        "stage2",
        with_prototypes(objective, training.loss.memory, training.extract_train),
        training.loaders.train,
        training.loaders.train.batch_sampler,
        image_plan.make_optimizer(image_side),
        image_plan,
    )


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
    return CachedFeatures(features, images.pids, batch_size, seed, images.paths)
