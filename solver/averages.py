"""Weights of a mean over epochs."""

import torch
from torch import Tensor


def gaussian_weights(epochs: int, mean: float, std: float) -> Tensor:
    """Weights (epochs,) of epochs 1, 2, …, as a Gaussian around epoch `mean`, which sum to 1.

    PromptSRC (Khattak et al., ICCV 2023), section 3.2.2. Raises ValueError for a `std` that is not above 0.
    """
    if std <= 0:
        raise ValueError(f"std is {std}; allowed: above 0")
    distance = (torch.arange(1, epochs + 1, dtype=torch.float64) - mean) / std
    return (-(distance**2) / 2).softmax(dim=0)
