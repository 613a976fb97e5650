"""From the configuration to optimizers and schedules: which parameters learn at which rate."""

import logging
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from config.nodes import solver_node
from solver.layers import layer_factors, layer_rates
from solver.rules import NamedParameters, NameRule, group_parameters
from solver.schedules import (
    Schedule,
    cosine_schedule,
    iteration_cosine,
    multistep_schedule,
)
from utils.distributed import world_size

_OPTIMIZERS = ("Adam", "AdamW", "SGD")
# Of text search: the classifier and the masked language model.
_NEW_PARTS = "(cross_|classifier|mlm_head)"
_logger = logging.getLogger("transreid.train")


def stage_parameters(
    cfg: CfgNode, parameters: NamedParameters, stage: str = "main"
) -> list[tuple[str, nn.Parameter]]:
    """The named parameters that a stage trains, by ordered rules; those without a gradient are left out.

    Stage 0 trains both towers of CLIP. Stage 1 trains prompts, deep prompts of the text tower, and those of
    the image tower if their features are computed in every step; the main stage trains the image side.
    """
    return [
        (name, p) for name, p in parameters if p.requires_grad and _learns(name, _stage_rules(cfg, stage))
    ]


def _stage_rules(cfg: CfgNode, stage: str) -> list[tuple[str, bool]]:
    """Patterns of names and whether what they match learns; the first match counts."""
    if stage == "stage0":
        return [("^(image_encoder|text_encoder)(?!.*VPT)", True), ("", False)]
    if stage == "stage1":
        node = cfg.SOLVER.STAGE1
        return [
            ("^prompt_learner", True),
            ("token_embedding", False),  # prompts have their own words
            ("^text_encoder.*VPT", True),
            ("^text_encoder", node.TRAIN_TEXT),
            ("VPT", node.ONLINE_FEATURES),
            ("", False),
        ]
    prompts = solver_node(cfg).get("PROMPTS", "none")  # one-stage methods have no deep prompts
    return [
        ("^(prompt_learner|text_encoder)", False),
        (r"^image_encoder\.VPT", prompts != "none"),
        ("VPT", prompts == "all"),
        ("", True),
    ]


def _learns(name: str, rules: list[tuple[str, bool]]) -> bool:
    return next(learns for pattern, learns in rules if re.search(pattern, name))


def make_optimizer(cfg: CfgNode, parameters: NamedParameters, stage: str = "main") -> torch.optim.Optimizer:
    """An optimizer over the named parameters that require a gradient, in as few groups as there are settings.

    A group's `lr_scale` is its factor of the scheduled rate. Several processes divide its state where SHARD
    says so. Raises ValueError for an unknown OPTIMIZER_NAME or when nothing is to be learned.
    """
    node = solver_node(cfg, stage)
    named = list(parameters)
    groups = group_parameters(named, _name_rules(node), node.BASE_LR, _layer_factors(node, named))
    if node.OPTIMIZER_NAME not in _OPTIMIZERS:
        raise ValueError(f"OPTIMIZER_NAME is {node.OPTIMIZER_NAME!r}; allowed: {', '.join(_OPTIMIZERS)}")
    kind = getattr(torch.optim, node.OPTIMIZER_NAME)
    # fused: one pass over the weights, on GPU and CPU
    options: dict[str, Any] = {"lr": node.BASE_LR, "fused": True}
    if node.OPTIMIZER_NAME == "SGD":
        options["momentum"] = node.MOMENTUM
    else:
        options |= {"betas": tuple(node.BETAS), "eps": node.EPS}
    if cfg.SOLVER.SHARD == "zero1" and world_size() > 1:
        from solver.sharded import ShardedOptimizer  # which torch may be built without

        return ShardedOptimizer(groups, kind, **options)
    return kind(groups, **options)


def _layer_factors(node: CfgNode, named: list[tuple[str, nn.Parameter]]) -> dict[str, float]:
    """Factors of the rate by name, of layers and of the text tower, for methods that have such keys."""
    if "LAYER_DECAY" not in node:
        return {}
    names, decay, text_factor = [name for name, _ in named], node.LAYER_DECAY, node.TEXT_LR_FACTOR
    if decay != 1:
        learning = [name for name, parameter in named if parameter.requires_grad]
        rates = layer_rates(learning, decay, text_factor, node.BASE_LR)
        text = "learning rates by layer (SOLVER.LAYER_DECAY %g), embeddings first, projection last: %s"
        _logger.info(text, decay, rates)
    return layer_factors(names, decay, text_factor)


def _name_rules(node: CfgNode) -> list[NameRule]:
    """Decay of biases, vectors and all else; higher rates of classifiers or of what starts at random."""
    decay = node.WEIGHT_DECAY
    bias_decay = decay if node.WEIGHT_DECAY_BIAS == -1 else node.WEIGHT_DECAY_BIAS
    rules = [NameRule("bias", node.get("BIAS_LR_FACTOR", 1), bias_decay), NameRule("", 1, decay)]
    if node.WEIGHT_DECAY_VECTORS != -1:
        vectors = [rule._replace(decay=node.WEIGHT_DECAY_VECTORS, most_dims=1) for rule in rules]
        rules = vectors + rules
    if node.get("LARGE_FC_LR", False):  # stage 1 trains no classifiers and has no such keys
        rules = _at_rate("classifier", 2, rules) + rules
    if "TOKEN_LR" in node:  # stage 0, where each part has a rate of its own
        parts = (("image_encoder", node.IMAGE_LR), ("token_embedding", node.TOKEN_LR), ("", node.TEXT_LR))
        rules = [
            rule._replace(pattern=f"{name}.*{rule.pattern}", factor=rule.factor * rate / node.BASE_LR)
            for name, rate in parts
            for rule in rules
        ]
    if "NEW_LR_FACTOR" in node:
        rules = _at_rate(_NEW_PARTS, node.NEW_LR_FACTOR, rules) + rules
    return rules


def _at_rate(parts: str, factor: float, rules: list[NameRule]) -> list[NameRule]:
    """The rules for parameters within `parts` of the model, with another factor of the rate."""
    return [rule._replace(pattern=f"{parts}.*{rule.pattern}", factor=factor) for rule in rules]


def _cosine(node: CfgNode) -> Schedule:
    return cosine_schedule(
        node.BASE_LR,
        epochs=node.MAX_EPOCHS,
        min_rate=node.LR_MIN,
        warmup_epochs=node.WARMUP_EPOCHS,
        warmup_rate=node.WARMUP_LR_INIT,
        first_index=node.SCHEDULE_START,
    )


def _multistep(node: CfgNode) -> Schedule:
    return multistep_schedule(
        node.BASE_LR,
        steps=node.STEPS,
        gamma=node.GAMMA,
        warmup_epochs=node.WARMUP_ITERS,
        warmup_factor=node.WARMUP_FACTOR,
        warmup_method=node.WARMUP_METHOD,
        first_index=node.SCHEDULE_START,
    )


def make_iteration_schedule(
    cfg: CfgNode, iterations_per_epoch: int, stage: str = "main"
) -> Callable[[int], float]:
    """Iteration of a stage (0-based) -> learning rate, for SCHEDULE 'cosine_iterations'."""
    node = solver_node(cfg, stage)
    return iteration_cosine(
        node.BASE_LR,
        iterations=iterations_per_epoch * node.MAX_EPOCHS,
        min_rate=node.LR_MIN,
        warmup=iterations_per_epoch * node.WARMUP_EPOCHS,
        warmup_rate=node.WARMUP_LR_INIT,
    )


_SCHEDULES: dict[str, Callable[[CfgNode], Schedule]] = {"cosine": _cosine, "multistep": _multistep}


def make_schedule(cfg: CfgNode, stage: str = "main", iterations: int = 0) -> Schedule:
    """Progress of a stage, its epoch (1-based) plus the share of it that is done -> learning rate.

    `iterations` are those of an epoch, which only the schedule 'cosine_iterations' needs. Raises ValueError
    for an unknown SCHEDULE.
    """
    node = solver_node(cfg, stage)
    if node.SCHEDULE == "cosine_iterations":
        by_iteration = make_iteration_schedule(cfg, iterations, stage)
        return lambda progress: by_iteration(round((progress - 1) * iterations))
    if node.SCHEDULE not in _SCHEDULES:
        raise ValueError(f"SCHEDULE is {node.SCHEDULE!r}; allowed: {', '.join(_SCHEDULES)}")
    return _SCHEDULES[node.SCHEDULE](node)
