"""The jobs of benchmarks/training on stage 1 with deep prompts, on image features of every step."""

from collections.abc import Callable

import torch
from torch import Tensor
from yacs.config import CfgNode

from benchmarks.measure import ROOT
from benchmarks.training import jobs, textbook
from benchmarks.training.jobs import FEATURE_SCALE, Record, Settings
from benchmarks.training.textbook_prompts import PromptModel
from datasets import ImageBatch
from model import ReIDModel, build_clip, clip_config
from processor import make_plan
from processor.engine import Objective, Stage, TrainingBatch
from processor.recipes import FeatureBatch, OnlinePromptObjective, PromptObjective

MakeObjective = Callable[[ReIDModel], Objective]
CONFIG = ROOT / "configs/prompts/ivlp_main.yml"


def configuration(settings: Settings, amp: str = "off") -> CfgNode:
    """IVLP's last published settings with random weights and patches that do not overlap."""
    return jobs.configuration(settings, {"SOLVER.AMP": amp}, CONFIG)


def textbook_model(config: CfgNode) -> PromptModel:
    """The textbook's with our model's weights."""
    ours, clip = jobs.build_model(config), build_clip(clip_config(config.MODEL.NAME), None)
    return PromptModel(
        clip, ours.state_dict(), tuple(config.MODEL.STRIDE_SIZE), ours.prompt_learner.length - 1
    )


# ---- both towers


def online(settings: Settings, amp: str) -> Record:
    """Steps on images and the prompts of their identities as the loop makes them."""
    config = configuration(settings, amp)
    return _measure(OnlinePromptObjective, drawn_images(settings), config, settings)


def online_textbook(settings: Settings, amp: str) -> Record:
    """The same images and identities with all positions, and gradients of all weights."""
    batch = drawn_images(settings)
    return _measure_textbook(lambda model: model.encode_images(batch.images), batch.pids, amp, settings)


def drawn_images(settings: Settings) -> ImageBatch:
    """Noise in place of images, each of another identity up to the number of classes, on the device."""
    generator = torch.Generator().manual_seed(settings.seed)
    images = torch.randn(settings.batch, 3, *settings.size, generator=generator)
    pids = _identities(settings)
    return ImageBatch(images, pids, torch.zeros_like(pids), torch.zeros_like(pids), []).to(settings.device)


# ---- texts


def texts(settings: Settings) -> Record:
    """Steps of the text side, against image features that stay as they are."""
    return _measure(PromptObjective, drawn_features(settings), configuration(settings), settings)


def texts_textbook(settings: Settings) -> Record:
    """The same features and identities with all positions, and gradients of all weights."""
    batch = drawn_features(settings)
    return _measure_textbook(lambda model: batch.features, batch.pids, "off", settings)


def drawn_features(settings: Settings) -> FeatureBatch:
    """Noise in place of image features, of the same identities, on the device."""
    generator = torch.Generator().manual_seed(settings.seed)
    width = clip_config(settings.model)["embed_dim"]
    features = FEATURE_SCALE * torch.randn(settings.batch, width, generator=generator)
    pids = _identities(settings)
    labels, place = pids.unique(return_inverse=True)
    return FeatureBatch(features, pids, labels, place, []).to(settings.device)


# ---- how a step is measured


def _identities(settings: Settings) -> Tensor:
    return torch.arange(settings.batch) % jobs.CLASSES


def make_stage(make_objective: MakeObjective, batch: TrainingBatch, config: CfgNode) -> Stage:
    """Stage 1 on one batch; what it does not train is frozen, as the loop does it."""
    model, plan = jobs.build_model(config), make_plan(config, "stage1")
    optimizer = plan.make_optimizer(model.named_parameters())
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    return Stage("stage1", make_objective(model), [batch], [batch], optimizer, plan)


def _measure(
    make_objective: MakeObjective, batch: TrainingBatch, config: CfgNode, settings: Settings
) -> Record:
    stage = make_stage(make_objective, batch, config)
    plain = make_objective(stage.objective.model)
    return jobs.measure_training(jobs.our_training(stage, plain, config, settings), settings)


def _measure_textbook(
    encode: Callable[[PromptModel], Tensor], pids: Tensor, amp: str, settings: Settings
) -> Record:
    """Steps of the prompts against the image features (B, P) that `encode` gives."""
    config = configuration(settings)
    model, node = textbook_model(config).to(settings.device).train(), config.SOLVER.STAGE1
    optimizer = textbook.make_optimizer(model.prompts(), node.BASE_LR, 1, node.WEIGHT_DECAY)

    def losses() -> dict[str, Tensor]:
        return jobs.prompt_losses(encode(model), model.encode_texts(pids), pids)

    return jobs.measure_training(jobs.textbook_training(losses, optimizer, amp, settings), settings)
