"""One call that seeds everything."""

import os
import random

import numpy as np
import torch


def seed_everything(seed: int, *, deterministic: bool = False) -> None:
    """Seed Python, NumPy and torch on every device.

    All processes of a run are seeded alike: what is random in training is drawn by seed, epoch and place.
    `deterministic`: only kernels whose results are the same in each run, which are slower; an operation that
    has none raises RuntimeError when it is used. Without it, the fastest kernels are searched for.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS reads it when it is first used; what the user has set stays.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # To fill memory before it is written shows bugs, but changes no result and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = not deterministic
    # Re-id trains on one image size, so cuDNN's search pays; it is the opposite of deterministic kernels.
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
