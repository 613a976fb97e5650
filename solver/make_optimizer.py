"""From the configuration to optimizers and schedules: which parameters learn at which rate."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn
from yacs.config import CfgNode

from config.shared import solver_node
from solver.schedules import Schedule, cosine_schedule, multistep_schedule

NamedParameters = Iterable[tuple[str, nn.Parameter]]
_OPTIMIZERS = ("Adam", "AdamW", "SGD")


def make_optimizer(cfg: CfgNode, parameters: NamedParameters, stage: str = "main") -> torch.optim.Optimizer:
    """An optimizer over the named parameters that require a gradient, in as few groups as there are rules.

    Biases take BASE_LR·BIAS_LR_FACTOR and, unless it is -1, WEIGHT_DECAY_BIAS; with LARGE_FC_LR the
    classifiers take twice the base rate. A group's `lr_scale` is its factor of the scheduled rate. Raises
    ValueError for an unknown OPTIMIZER_NAME or when nothing is to be learned.
    """
    node = solver_node(cfg, stage)
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups[_rule(name, node)].append(parameter)
    if not groups:
        raise ValueError("no parameter to optimize: all are frozen")
    if node.OPTIMIZER_NAME not in _OPTIMIZERS:
        raise ValueError(f"OPTIMIZER_NAME is {node.OPTIMIZER_NAME!r}; allowed: {', '.join(_OPTIMIZERS)}")
    options = {"momentum": node.MOMENTUM} if node.OPTIMIZER_NAME == "SGD" else {}
    return getattr(torch.optim, node.OPTIMIZER_NAME)(
        [
            {"params": members, "lr": node.BASE_LR * scale, "lr_scale": scale, "weight_decay": decay}
            for (scale, decay), members in groups.items()
        ],
        lr=node.BASE_LR,
        fused=True,  # one pass over the weights, on GPU and CPU
        **options,
    )


def _rule(name: str, node: CfgNode) -> tuple[float, float]:
    """Factor of the learning rate and weight decay of a parameter, by its name."""
    is_bias = "bias" in name
    # Stage 1 trains prompts, which have neither biases nor classifiers: its tree has no such keys.
    scale = node.get("BIAS_LR_FACTOR", 1) if is_bias else 1
    if node.get("LARGE_FC_LR", False) and "classifier" in name:
        scale = 2
    own_decay = is_bias and node.WEIGHT_DECAY_BIAS != -1
    return float(scale), node.WEIGHT_DECAY_BIAS if own_decay else node.WEIGHT_DECAY


def make_schedule(cfg: CfgNode, stage: str = "main") -> Schedule:
    """Epoch (1-based) -> learning rate: cosine for 'stage1', steps with warm-up for 'main'.

    Of the main stage epoch 1 has the index SCHEDULE_START.
    """
    node = solver_node(cfg, stage)
    if stage == "stage1":
        return cosine_schedule(
            node.BASE_LR,
            epochs=node.MAX_EPOCHS,
            min_rate=node.LR_MIN,
            warmup_epochs=node.WARMUP_EPOCHS,
            warmup_rate=node.WARMUP_LR_INIT,
        )
    by_index = multistep_schedule(
        node.BASE_LR,
        steps=node.STEPS,
        gamma=node.GAMMA,
        warmup_epochs=node.WARMUP_ITERS,
        warmup_factor=node.WARMUP_FACTOR,
        warmup_method=node.WARMUP_METHOD,
    )
    return lambda epoch: by_index(epoch - 1 + node.SCHEDULE_START)
