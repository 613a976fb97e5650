"""Encoding a batch by parts, so that the activations of only one part are held at a time."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Features = TypeVar("Features", Tensor, tuple)


def in_parts(
    module: nn.Module, encode: Callable[..., Features], size: int, *inputs: Tensor | None
) -> Features:
    """`encode(*inputs)` on `size` rows at a time where `module` is trained; the backward pass repeats them.

    Gives the features, a tensor (B, …) or a named tuple of such tensors, of the whole batch, so that what
    follows sees all of it: losses and gradients stay the same (gradient caching, Gao et al. 2021, section
    3). 0 takes all rows at once. Inputs that are None stay so. `encode` draws no random numbers from torch.
    """
    if not (size and module.training and torch.is_grad_enabled()):
        return encode(*inputs)
    count = next(len(each) for each in inputs if each is not None)
    split = [[None] * -(-count // size) if each is None else each.split(size) for each in inputs]
    parts: list[Any] = [
        checkpoint(encode, *part, use_reentrant=False, preserve_rng_state=False)
        for part in zip(*split, strict=True)
    ]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)  # pyright: ignore[reportReturnType]
    return type(parts[0])(*map(torch.cat, zip(*parts, strict=True)))
