"""Image features with probabilities of described classes next to them (Multimodal-ReID, ISVC 2024)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.07


def attribute_probabilities(projected: Tensor, classes: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Probabilities (B, C) that images show each class, rows of sum 1: softmax of cosine / temperature.

    Args:
        projected: features of images (B, P) in the space of texts, normalised here.
        classes: features of classes (C, P), of L2 norm 1.
        temperature: positive.

    Raises ValueError for features of different widths and a temperature that is not positive.
    """
    if projected.shape[1] != classes.shape[1]:
        raise ValueError(
            f"projected is {projected.shape[1]} wide and classes {classes.shape[1]}; allowed: one "
            "width, that of a CLIP model"
        )
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; allowed: a positive number")
    return (F.normalize(projected, dim=1) @ classes.T / temperature).softmax(dim=1)


def fuse(features: Tensor, probabilities: Tensor, weight: float = 1.0) -> Tensor:
    """Features (B, D) and `weight` times probabilities (B, C) side by side, (B, D + C), not normalised.

    Raises ValueError for a weight that is negative or not finite.
    """
    if not 0 <= weight < math.inf:
        raise ValueError(f"weight is {weight}; allowed: 0 or more")
    return torch.cat([features, weight * probabilities], dim=1)
