"""Contrast between images and texts of identities (Li, Sun, Li, AAAI 2023, equations 4 and 5)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def supcon_loss(a: Tensor, b: Tensor, a_pids: Tensor, b_pids: Tensor) -> Tensor:
    """Supervised contrastive loss of a (N, D) against b (M, D); temperature 1, no L2 norm.

    For each row of `a`, minus the mean log-softmax over its dot products with `b` at the rows of the same pid
    (Khosla et al. 2020, equation 2, between two sets). Every pid of `a` must occur in `b`.
    """
    log_probability = F.log_softmax(dot_products(a, b), dim=1)  # (N, M)
    same = (a_pids[:, None] == b_pids[None, :]).to(log_probability.dtype)
    return -((same * log_probability).sum(dim=1) / same.sum(dim=1)).mean()


def dot_products(a: Tensor, b: Tensor) -> Tensor:
    """Products (N, M) of the rows of a (N, D) and b (M, D) in float32, also under autocast.

    Without a norm they are of the order of 100, where half precision has steps of a tenth to a half.
    """
    with torch.autocast(a.device.type, enabled=False):
        dtype = torch.promote_types(a.dtype, torch.float32)
        return a.to(dtype) @ b.to(dtype).T
