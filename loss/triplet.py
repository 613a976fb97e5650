"""Batch-hard triplet loss (Hermans, Beyer, Leibe 2017, equation 5)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def batch_hard_triplet(features: Tensor, pids: Tensor, margin: float | None = 0.3) -> Tensor:
    """Mean over anchors of hardest positive against hardest negative in the batch, a scalar.

    Args:
        features: (B, D), not normalised.
        pids: (B,); identities may have different numbers of images.
        margin: of the hinge; None is the soft margin, log(1 + exp(d_ap - d_an)).

    An anchor counts as its own positive, as in the published system; an anchor without a negative adds 0.
    """
    distance = _pairwise_euclidean(features)
    same = pids[:, None] == pids[None, :]
    hardest_positive = distance.masked_fill(~same, -torch.inf).max(dim=1).values
    hardest_negative = distance.masked_fill(same, torch.inf).min(dim=1).values
    gap = hardest_positive - hardest_negative
    return F.softplus(gap).mean() if margin is None else F.relu(gap + margin).mean()


def _pairwise_euclidean(features: Tensor) -> Tensor:
    """Distances (B, B); squares are clamped at 1e-12, where the root's gradient would be infinite."""
    # Half precision has too few digits for a difference of large squares.
    with torch.autocast(features.device.type, enabled=False):
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        square = features.square().sum(dim=1)
        squared = square[:, None] + square[None, :] - 2 * features @ features.T
        return squared.clamp(min=1e-12).sqrt()
