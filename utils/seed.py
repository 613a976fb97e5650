"""Seeds of all random generators, set by one call."""

import os
import random

import numpy as np
import torch


def seed_everything(seed: int, *, deterministic: bool = False) -> None:
    """Seed Python, NumPy and torch on every device.

    All processes of a run get the same seed: draws in training follow from seed, epoch and place in the
    batch. With `deterministic`, only kernels with the same results in every run are used, which are slower;
    an operation without one raises RuntimeError when it is used. Without it, torch searches for the fastest.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS reads it at its first use; a value set by the user stays.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # Filling memory before it is written costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = not deterministic
    # Re-id trains on one image size, so cuDNN's search pays; it is the opposite of deterministic kernels.
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
