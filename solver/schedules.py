"""Learning rates as pure functions of an index that grows by 1 from epoch to epoch.

CLIP-ReID steps its scheduler with the epoch's number before the epoch, so that epoch 1 has index 1 and
index 0 is never used; PCL-CLIP steps it after the epoch, so that epoch 1 has index 0.
"""

from collections.abc import Callable, Sequence

import torch
from timm.scheduler import CosineLRScheduler

Schedule = Callable[[int], float]


def cosine_schedule(
    base_rate: float, *, epochs: int, min_rate: float, warmup_epochs: int, warmup_rate: float
) -> Schedule:
    """timm's cosine decay from `base_rate` to `min_rate` with linear warm-up from `warmup_rate`."""
    holder = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base_rate)
    scheduler = CosineLRScheduler(
        holder,
        t_initial=epochs,
        lr_min=min_rate,
        warmup_t=warmup_epochs,
        warmup_lr_init=warmup_rate,
        cycle_limit=1,
    )

    def rate(epoch: int) -> float:
        scheduler.step(epoch)  # absolute, not incremental: the same epoch gives the same rate
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
) -> Schedule:
    """`base_rate` times `gamma` for every step that is reached, after a warm-up counted in epochs.

    Warm-up multiplies by `warmup_factor`, 'constant', or by a line from there to 1, 'linear'.
    Raises ValueError for another method or steps that do not ascend.
    """
    if warmup_method not in ("constant", "linear"):
        raise ValueError(f"WARMUP_METHOD is {warmup_method!r}; allowed: 'constant', 'linear'")
    if list(steps) != sorted(steps):
        raise ValueError(f"STEPS is {list(steps)}; allowed: ascending epochs")

    def rate(epoch: int) -> float:
        warmup = 1.0
        if epoch < warmup_epochs:
            done = epoch / warmup_epochs if warmup_method == "linear" else 0.0
            warmup = warmup_factor * (1 - done) + done
        return base_rate * warmup * gamma ** sum(step <= epoch for step in steps)

    return rate
