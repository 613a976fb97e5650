"""One call that seeds everything."""

import random

import numpy as np
import torch


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch on every device; processes of one run differ by their rank."""
    random.seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)
    torch.manual_seed(seed + rank)
    # Re-id trains on one image size, so cuDNN's search pays; it is the opposite of deterministic kernels.
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.deterministic = False
