"""From the configuration to rehearsals of a run's stages: each on blank tensors, to count its memory."""

import copy
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from config.methods.prompts import learns_online
from datasets import ImageBatch, PairBatch
from loss import make_loss
from model import ReIDModel, ReIDOutput, Teacher, Tokenizer
from processor.engine import Plan, Stage, TrainingBatch
from processor.engine.objective import Objective
from processor.engine.rehearsal import Blank
from processor.make_parts import Parts
from processor.make_recipes import make_plan, make_text_search_objective
from processor.outlook import Rehearsal, Saving
from processor.recipes.captions import CaptionObjective, DescribedBatch
from processor.recipes.image_objective import ImageObjective
from processor.recipes.prompt_stage import FeatureBatch, OnlinePromptObjective, PromptObjective
from utils.distributed import world_size

_SAMPLE = 1000  # captions among which the longest is looked for
_PARTS, _MORE_PARTS = 4, 16  # of a batch, for SOLVER.MICRO_BATCH


def _image_rehearsals(
    cfg: CfgNode, parts: Parts, name: str, *, accuracy: bool = True, clusters: bool = False
) -> list[Rehearsal]:
    """The stage of the methods on images that have one, or the main stage of those that have several."""
    plan, dataset = make_plan(cfg, "main", len(parts.loaders.train)), parts.dataset
    # Clusters are not known yet: of each image one at the most.
    prototypes = len(dataset.train) if clusters else dataset.num_train_pids

    def build(model: Any, batch: int) -> Blank:
        loss = make_loss(cfg, model.num_classes, model.image_encoder.width)
        if loss.memory is not None:
            loss.memory.prototypes = torch.zeros(prototypes, model.feature_width)
        texts = torch.zeros(model.num_classes, model.image_encoder.projected_width)
        objective = ImageObjective(
            model,
            loss,
            texts if hasattr(model, "prompt_learner") else None,
            accuracy=accuracy,
            teacher=_teacher(cfg, model),
        )
        # Centres and prototypes, small ones, are moved by numbers.
        objective.after_step = lambda: None
        return _blank(name, objective, model, _images(cfg, batch), plan, _extraction(cfg, model))

    batch = plan.batch_size
    savings, part = _main_savings(cfg, parts.model, batch), cfg.SOLVER.MICRO_BATCH
    return [Rehearsal(name, plan, len(parts.loaders.train), build, savings, part=part)]


def baseline_rehearsals(cfg: CfgNode, parts: Parts) -> list[Rehearsal]:
    """The one stage of the baseline."""
    return _image_rehearsals(cfg, parts, "baseline")


def pcl_rehearsals(cfg: CfgNode, parts: Parts) -> list[Rehearsal]:
    """The one stage of PCL-CLIP."""
    return _image_rehearsals(cfg, parts, "pcl", accuracy=False)


def cluster_rehearsals(cfg: CfgNode, parts: Parts) -> list[Rehearsal]:
    """The one stage of PCL-CLIP without identities, with as many prototypes as there are images."""
    return _image_rehearsals(cfg, parts, "pcl", accuracy=False, clusters=True)


def clipreid_rehearsals(cfg: CfgNode, parts: Parts) -> list[Rehearsal]:
    """Stage 0 where there is one, stage 1 and stage 2."""
    stages = [_prompt_rehearsal(cfg, parts), *_image_rehearsals(cfg, parts, "stage2")]
    described = parts.loaders.described
    if described is not None and described.loader is not None:
        stages.insert(0, _caption_rehearsal(cfg, parts, len(described.loader)))
    return stages


def _prompt_rehearsal(cfg: CfgNode, parts: Parts) -> Rehearsal:
    plan, images = make_plan(cfg, "stage1"), len(parts.dataset.train)
    online, length = learns_online(cfg), 0
    described = parts.loaders.described
    if (
        described and cfg.SOLVER.STAGE1.CAPTIONS and parts.model.prompt_in_captions
    ):  # else they are encoded before
        length = _longest(parts.model.caption_tokenizer, _captions(parts))
    stored = torch.float16 if cfg.SOLVER.STAGE1.HALF_FEATURES else torch.float32

    def build(model: Any, batch: int) -> Blank:
        if online:
            return _blank("stage1", OnlinePromptObjective(model), model, _images(cfg, batch), plan)
        width, labels = model.image_encoder.projected_width, min(batch, model.num_classes)
        given = FeatureBatch(
            torch.zeros(batch, width), _zeros(batch), _zeros(labels), _zeros(batch), [""] * batch
        )
        if length:
            _take_blank_captions(model, length)
            given = given.replace(sentences=["a"] * batch)
        objective = PromptObjective(model)
        objective.register_buffer("features", torch.zeros(images, width, dtype=stored), persistent=False)
        return _blank("stage1", objective, model, given, plan, _extraction(cfg, model, batch))

    key, batch = "SOLVER.STAGE1.IMS_PER_BATCH", plan.batch_size
    micro = _main_savings(cfg, parts.model, batch, key) if online else ()
    steps = images // batch if online else -(-images // batch)
    part = cfg.SOLVER.MICRO_BATCH if online else 0
    return Rehearsal("stage1", plan, steps, build, micro or _smaller_batches(key, batch), part=part)


def _caption_rehearsal(cfg: CfgNode, parts: Parts, steps: int) -> Rehearsal:
    plan, key = make_plan(cfg, "stage0"), "SOLVER.STAGE0.IMS_PER_BATCH"
    length = _longest(parts.model.text_encoder.tokenizer, _captions(parts))

    def build(model: Any, batch: int) -> Blank:
        _take_blank_captions(model, length)
        images = _images(cfg, batch)
        given = DescribedBatch(images.images, ["a"] * batch, images.pids, images.paths)
        objective = CaptionObjective(model, cfg.SOLVER.STAGE0.TEMPERATURE)
        return _blank("stage0", objective, model, given, plan)

    savings = _main_savings(cfg, parts.model, plan.batch_size, key)
    return Rehearsal("stage0", plan, steps, build, savings, part=cfg.SOLVER.MICRO_BATCH)


def text_rehearsals(cfg: CfgNode, parts: Parts) -> list[Rehearsal]:
    """The stage of text search.

    The masked language model, whose head works on as many words as were drawn, is left out.
    """
    plan, node, train = make_plan(cfg, "main", len(parts.loaders.train)), cfg.MODEL, parts.dataset.train
    captions = [record.caption for record in train[:_SAMPLE]]
    length = _longest(parts.model.encode_text.tokenizer, captions)
    counted = cfg.clone()
    counted.defrost()
    counted.MODEL.MLM_LOSS_WEIGHT = 0.0

    def build(model: Any, batch: int) -> Blank:
        objective = make_text_search_objective(counted, model, len(parts.loaders.train))
        tokens = torch.full((batch, length), 3)
        objective._tokenize = lambda batch: (tokens, None)
        images = _images(cfg, batch).images
        views = torch.zeros_like(images) if node.SS_LOSS_WEIGHT else None
        given = PairBatch(
            images,
            ["a"] * batch,
            _zeros(batch),
            [""] * batch,
            [""] * batch,
            _zeros(batch),
            torch.zeros_like(images) if node.MULTI_VIEW and node.NITC_LOSS_WEIGHT else None,
            views,
            None if views is None else torch.zeros_like(images),
        )
        return _blank(
            "tbps",
            objective,
            model,
            given,
            plan,
            lambda: model.encode_image(_images(cfg, cfg.TEST.IMS_PER_BATCH).images),
        )

    savings = _main_savings(cfg, parts.model, plan.batch_size)
    without = "the masked language model (MODEL.MLM_LOSS_WEIGHT)" if node.MLM_LOSS_WEIGHT else ""
    part = cfg.SOLVER.MICRO_BATCH
    return [Rehearsal("tbps", plan, len(parts.loaders.train), build, savings, without, part)]


# ---- blank tensors


def _blank(
    name: str,
    objective: Objective,
    model: nn.Module,
    batch: TrainingBatch,
    plan: Plan,
    extract: Callable[[], object] | None = None,
) -> Blank:
    optimizer = plan.make_optimizer(model.named_parameters())
    return Blank(Stage(name, objective, [], cast(Any, None), optimizer, plan), batch, extract)


def _images(cfg: CfgNode, batch: int) -> ImageBatch:
    images = torch.zeros(batch, 3, *cfg.INPUT.SIZE_TRAIN)
    return ImageBatch(images, _zeros(batch), _zeros(batch), _zeros(batch), [""] * batch)


def _zeros(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


def _extraction(cfg: CfgNode, model: ReIDModel, batch: int = 0) -> Callable[[], object]:
    """Encodes images as an evaluation does."""

    def encode() -> Tensor | ReIDOutput:
        given = _images(cfg, batch or cfg.TEST.IMS_PER_BATCH)
        return model(given.images, given.camids, given.viewids)

    return encode


def _teacher(cfg: CfgNode, model: ReIDModel) -> Teacher | None:
    """A tower as large as the teacher of this configuration."""
    node = cfg.MODEL.TEACHER
    return Teacher(copy.deepcopy(model.image_encoder), node.FEATURE) if node.LOSS_WEIGHT else None


def _captions(parts: Parts) -> list[str]:
    texts = (text for each in parts.loaders.described.captions.values() for text in each)
    return list(itertools.islice(texts, _SAMPLE))


def _longest(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    """Tokens of the longest text."""
    return int(tokenizer(texts)[1].sum(dim=1).max())


def _take_blank_captions(model: ReIDModel, length: int) -> None:
    """Let the model encode captions of so many tokens, whatever their words are."""
    tower = model.text_encoder

    def encode(texts: Sequence[str], pids: Tensor | None = None) -> Tensor:
        tokens = torch.zeros(len(texts), length, dtype=torch.int64)
        if pids is None or not model.prompt_in_captions:
            return tower.encode(tokens, torch.ones_like(tokens))
        learned = model.prompt_learner.cls_ctx[pids]
        words = torch.cat([learned, cast(nn.Embedding, tower.token_embedding)(tokens)], dim=1)
        return tower.encode_embedded(words, torch.full((len(texts),), words.shape[1] - 1))

    model.encode_captions = encode


# ---- what lowers the memory


def _main_savings(cfg: CfgNode, model: nn.Module, batch: int, key: str = "") -> tuple[Saving, ...]:
    """Of a stage that trains an image tower; `key` is that of its batch."""
    own, savings = batch // world_size(), []
    if all(getattr(module, "separates_images", True) for module in model.modules()):
        now = cfg.SOLVER.MICRO_BATCH or own
        for parts, recompute in ((_PARTS, False), (_MORE_PARTS, True)):
            size = min(max(own // parts, 1), now)
            if size == now and (cfg.SOLVER.GRAD_CHECKPOINT or not recompute):
                continue  # that is what the run has
            keys = f"SOLVER.MICRO_BATCH {size}" + " SOLVER.GRAD_CHECKPOINT True" * recompute
            savings.append(Saving(keys, batch, functools.partial(_by_parts, size, recompute), part=size))
    sharded = cfg.SOLVER.SHARD == "zero1"
    if not sharded and world_size() > 1:
        savings.append(Saving("SOLVER.SHARD zero1", batch, sharded=True))
    key = key or ("SOLVER.STAGE2" if "STAGE2" in cfg.SOLVER else "SOLVER") + ".IMS_PER_BATCH"
    group = 1 if cfg.DATALOADER.get("SAMPLER", "softmax") == "softmax" else cfg.DATALOADER.NUM_INSTANCE
    savings += _smaller_batches(key, batch, group * world_size())
    return tuple(replace(saving, sharded=sharded or saving.sharded) for saving in savings)


def _by_parts(size: int, recompute: bool, model: nn.Module) -> None:
    """Make of a model the one that SOLVER.MICRO_BATCH and SOLVER.GRAD_CHECKPOINT make."""
    for module in cast(Iterable[Any], model.modules()):
        if hasattr(module, "micro_batch"):
            module.micro_batch = size
        if recompute and hasattr(module, "recompute_blocks"):
            module.recompute_blocks = True


def _smaller_batches(key: str, batch: int, group: int = 1) -> tuple[Saving, ...]:
    """A half and a quarter of a batch, as far as whole groups of at least two images fill it."""
    sizes = (batch // part // group * group for part in (2, 4))
    return tuple(Saving(f"{key} {size}", size) for size in dict.fromkeys(sizes) if 2 <= size < batch)
