"""The jobs of benchmarks/training on TBPS-CLIP: training steps on pairs of images and captions, and texts."""

import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from benchmarks.measure import ROOT
from benchmarks.training import textbook_tbps
from benchmarks.training.inputs import EXTRACTED_BATCHES, measure_extraction
from benchmarks.training.jobs import (
    Record,
    Settings,
    Training,
    first_losses,
    measure_steps,
    our_training,
    textbook_training,
)
from config import cfg_tbps
from config.load import load_config
from datasets import CaptionBatch, PairBatch
from model import DualModel, build_clip, clip_config, make_text_search_model, tokenize_captions
from processor import extract, make_plan, make_text_search_objective
from processor.engine import Stage
from processor.evaluation import TextToImage
from utils.seed import seed_everything

CONFIGS = {"full": "vit_tbps", "simplified": "vit_tbps_simplified"}
SHORTEST, LONGEST = 25, 40  # tokens of a caption, start and end of text included; drawn uniformly
PAIRS_PER_IDENTITY = 2
# Each is one token.
WORDS = (
    *(
        "a",
        "man",
        "woman",
        "wearing",
        "with",
        "and",
        "in",
        "the",
        "of",
        "is",
        "carrying",
        "holding",
        "walking",
    ),
    *("long", "short", "dark", "light", "black", "white", "red", "blue", "green", "grey", "yellow", "pink"),
    *("hair", "jacket", "coat", "shirt", "dress", "skirt", "pants", "jeans", "shoes", "boots", "bag"),
)


def configuration(settings: Settings, kind: str, keys: Mapping[str, Any] | None = None) -> CfgNode:
    """The published configuration 'full' or 'simplified' with random weights and the settings, then the keys.

    The head of self-supervision takes the width of the features.
    """
    clip = clip_config(settings.model)
    patch, width = clip["vision_cfg"]["patch_size"], clip["embed_dim"]
    values = {
        "MODEL.NAME": settings.model,
        "MODEL.PRETRAIN_CHOICE": "none",
        "MODEL.STRIDE_SIZE": [patch, patch],
        "MODEL.SIMCLR_MLP": [width, 128, width],
        "INPUT.SIZE_TRAIN": list(settings.size),
        "INPUT.SIZE_TEST": list(settings.size),
        "SOLVER.SEED": settings.seed,
        "SOLVER.IMS_PER_BATCH": settings.batch,
        **(keys or {}),
    }
    path = ROOT / f"configs/tbps/{CONFIGS[kind]}.yml"
    return load_config(cfg_tbps, path, [word for pair in values.items() for word in pair])


def build_model(config: CfgNode) -> DualModel:
    """Our model; its random weights depend only on the seed."""
    seed_everything(config.SOLVER.SEED)
    return make_text_search_model(config)


def textbook_model(config: CfgNode) -> textbook_tbps.Model:
    """The textbook's with our model's weights."""
    clip = build_clip(clip_config(config.MODEL.NAME), None)
    heads = tuple(each.resblocks[0].attn.num_heads for each in (clip.visual.transformer, clip.transformer))
    return textbook_tbps.Model(build_model(config).state_dict(), heads, config.MODEL.TEXT_DROPOUT)


# ---- training steps


def step(settings: Settings, kind: str, keys: Mapping[str, Any]) -> Record:
    """Steps of both towers as the loop makes them, on the pictures that the losses want."""
    config = configuration(settings, kind, keys)
    model, plan = build_model(config), make_plan(config, "main", iterations=1)
    batch = drawn_pairs(settings)
    if not config.MODEL.MULTI_VIEW:
        batch = batch.replace(second_images=None)
    if not config.MODEL.SS_LOSS_WEIGHT:
        batch = batch.replace(first_views=None, second_views=None)
    objective, plain = (make_text_search_objective(config, model) for _ in range(2))
    optimizer = plan.make_optimizer(model.named_parameters())
    stage = Stage("tbps", objective, [batch], [batch], optimizer, plan)
    training = our_training(stage, plain, config, settings)

    def set_dropout(rate: float) -> None:
        model.encode_text.dropout = rate

    return _measure(training, set_dropout, config, settings)


def step_textbook(settings: Settings, kind: str, amp: str) -> Record:
    """The same pairs and losses; all four pictures are moved, as published, whatever the losses want."""
    config = configuration(settings, kind)
    model = textbook_model(config).to(settings.device).train()
    weights = make_text_search_objective(config, build_model(config)).weights
    optimizer = textbook_tbps.make_optimizer(model.named_parameters(), config.SOLVER)
    pairs, soft_shares = drawn_pairs(settings), itertools.chain([0.0], itertools.repeat(weights.soft))

    def losses() -> dict[str, Tensor]:
        batch = pairs.to(settings.device)
        tokens = tokenize_captions(batch.captions, config.MODEL.TEXT_LENGTH).to(settings.device)
        return model.losses(batch, tokens, weights, next(soft_shares))

    training = textbook_training(losses, optimizer, amp, settings)

    def set_dropout(rate: float) -> None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate

    return _measure(training, set_dropout, config, settings)


def drawn_pairs(settings: Settings) -> PairBatch:
    """Noise in place of four pictures of each pair, with captions and identities; on the processor."""
    generator = torch.Generator().manual_seed(settings.seed)
    pictures = (torch.randn(settings.batch, 3, *settings.size, generator=generator) for _ in range(4))
    images, second, *views = pictures
    names = [f"{index}.jpg" for index in range(settings.batch)]
    pids, seeds = torch.arange(settings.batch) // PAIRS_PER_IDENTITY, torch.arange(settings.batch)
    captions = drawn_captions(settings.batch, settings.seed)
    return PairBatch(images, captions, pids, names, names, seeds, second, *views)


def drawn_captions(count: int, seed: int) -> list[str]:
    """Words in a row, as many as the captions of public data sets have tokens."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(SHORTEST, LONGEST) - 2)) for _ in range(count)]


def _measure(
    training: Training, set_dropout: Callable[[float], None], config: CfgNode, settings: Settings
) -> Record:
    """The first steps without dropout, so that losses can be compared; those that are measured with it."""
    set_dropout(0.0)
    record = first_losses(training, settings)
    set_dropout(config.MODEL.TEXT_DROPOUT)
    return record | measure_steps(training, settings)


# ---- features of texts


def texts(settings: Settings) -> Record:
    """Features of captions as an evaluation makes them, each batch cut at its longest."""
    config = configuration(settings, "simplified")
    model = build_model(config)
    text = TextToImage([], drawn_queries(settings), [], model).streams()["text"]

    def one_pass() -> Tensor:
        return extract(model, text.loader, settings.device, text.encode).features

    return measure_extraction(one_pass, torch.float32, settings)


def texts_textbook(settings: Settings) -> Record:
    """The same features, of all positions."""
    config = configuration(settings, "simplified")
    tower = textbook_model(config).encode_text.to(settings.device).eval()

    @torch.no_grad()
    def one_pass() -> Tensor:
        batches = (tokenize_captions(batch.captions).to(settings.device) for batch in drawn_queries(settings))
        return torch.cat([tower(tokens).cpu() for tokens in batches])

    return measure_extraction(one_pass, torch.float32, settings)


def drawn_queries(settings: Settings) -> list[CaptionBatch]:
    """Batches of captions, on the processor."""
    captions = drawn_captions(EXTRACTED_BATCHES * settings.batch, settings.seed)
    batches = []
    for start in range(0, len(captions), settings.batch):
        names = [f"{index}.jpg" for index in range(start, start + settings.batch)]
        pids = torch.arange(start, start + settings.batch)
        batches.append(CaptionBatch(captions[start : start + settings.batch], pids, names, names))
    return batches
