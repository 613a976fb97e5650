"""Learning rates as pure functions of an index that grows by 1 from epoch to epoch.

A `Schedule` takes the progress of training: the epoch (1-based) plus the share of it that is done, so that
epoch 3 runs from 3 to 4. It is asked at every step; a schedule by epochs takes its floor.
CLIP-ReID steps its scheduler with the epoch's number before the epoch, so that epoch 1 has index 1 and
index 0 is never used; PCL-CLIP steps it after the epoch, so that epoch 1 has index 0.
"""

import math
from collections.abc import Callable, Sequence

import torch
from timm.scheduler.cosine_lr import CosineLRScheduler

Schedule = Callable[[float], float]


def cosine_schedule(
    base_rate: float,
    *,
    epochs: int,
    min_rate: float,
    warmup_epochs: int,
    warmup_rate: float,
    first_index: int = 1,
) -> Schedule:
    """timm's cosine decay from `base_rate` to `min_rate` with linear warm-up from `warmup_rate`.

    Epoch 1 has the index `first_index`.
    """
    holder = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base_rate)
    scheduler = CosineLRScheduler(
        holder,
        t_initial=epochs,
        lr_min=min_rate,
        warmup_t=warmup_epochs,
        warmup_lr_init=warmup_rate,
        cycle_limit=1,
    )

    def rate(progress: float) -> float:
        # Absolute, not incremental: the same epoch gives the same rate.
        scheduler.step(math.floor(progress) - 1 + first_index)
        return holder.param_groups[0]["lr"]

    return rate


def multistep_schedule(
    base_rate: float,
    *,
    steps: Sequence[int],
    gamma: float,
    warmup_epochs: int,
    warmup_factor: float,
    warmup_method: str = "linear",
    first_index: int = 1,
) -> Schedule:
    """`base_rate` times `gamma` for every step that is reached, after a warm-up counted in epochs.

    Warm-up multiplies by `warmup_factor`, 'constant', or by a line from there to 1, 'linear'. Epoch 1 has the
    index `first_index`. Raises ValueError for another method or steps that do not ascend.
    """
    if warmup_method not in ("constant", "linear"):
        raise ValueError(f"warmup_method is {warmup_method!r}; allowed: 'constant', 'linear'")
    if list(steps) != sorted(steps):
        raise ValueError(f"steps is {list(steps)}; allowed: ascending epochs")

    def rate(progress: float) -> float:
        index = math.floor(progress) - 1 + first_index
        warmup = 1.0
        if index < warmup_epochs:
            done = index / warmup_epochs if warmup_method == "linear" else 0.0
            warmup = warmup_factor * (1 - done) + done
        return base_rate * warmup * gamma ** sum(step <= index for step in steps)

    return rate


def iteration_cosine(
    base_rate: float, *, iterations: int, min_rate: float, warmup: int, warmup_rate: float
) -> Callable[[int], float]:
    """Iteration (0-based) of `iterations` -> rate: a line to `base_rate`, then a cosine (TBPS-CLIP).

    The line has `warmup` rates from `warmup_rate` to `base_rate`, both included, so that the peak comes
    twice; the cosine ends one step above `min_rate`.
    """

    def rate(iteration: int) -> float:
        if iteration < warmup:
            return warmup_rate + (base_rate - warmup_rate) * iteration / max(warmup - 1, 1)
        share = (iteration - warmup) / (iterations - warmup)
        return min_rate + (base_rate - min_rate) * (1 + math.cos(math.pi * share)) / 2

    return rate
