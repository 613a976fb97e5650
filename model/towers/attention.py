"""Attention maps: how a vision transformer's class token weighs the patches of an image.

Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3 (rollout).
"""

import math

import torch
from torch import Tensor, nn

from model.towers.blocks import attention_weights
from model.towers.image import ViTBackbone

_METHODS = ("rollout", "last")


@torch.no_grad()
def attention_map(
    backbone: nn.Module, images: Tensor, side_information: Tensor | None = None, *, method: str = "rollout"
) -> Tensor:
    """Share (B, h, w) of the class token's attention that each patch of images (B, 3, H, W) gets; sums to 1.

    `method` 'rollout' follows attention through all blocks, 'last' is that of the last block; both are means
    over heads. `side_information` (B, D) is what the tower's forward takes. Raises ValueError for another
    method, a tower without a class token, and one in training mode.
    """
    if method not in _METHODS:
        raise ValueError(f"method is {method!r}; allowed: {', '.join(map(repr, _METHODS))}")
    if not isinstance(backbone, ViTBackbone):
        raise ValueError(
            f"attention of a {type(backbone).__name__}, which has no class token; allowed: a ViTBackbone"
        )
    if backbone.training:
        raise ValueError("the image tower is in training mode; allowed: evaluation mode, see eval()")
    kept = [attention_weights(block, x) for block, x in backbone.walk(images, side_information)]
    if method == "last":
        kept = kept[-1:]
    else:
        # Half of what a token is comes past the attention, over the skip connection. Rows still sum to 1.
        kept = [(weights + torch.eye(weights.shape[-1], device=weights.device)) / 2 for weights in kept]
    row = kept[-1][:, 0]  # (B, 1 + h·w)
    for weights in reversed(kept[:-1]):
        row = torch.einsum("bi,bij->bj", row, weights)
    patches = row[:, 1 : 1 + math.prod(backbone.grid)]
    return (patches / patches.sum(dim=1, keepdim=True)).unflatten(1, backbone.grid)
