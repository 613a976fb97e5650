"""Contrast between the images and the texts of pairs (TBPS-CLIP; Cao, Bai, Zeng, Ye, Zhang, AAAI 2024).

Features are (N, D) of unit length, image i and text i are a pair, pids (N,); pairs of one identity match each
other. All losses are computed in float32, also under autocast, and are means over N.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from loss.contrastive import dot_products


def nitc_loss(
    image: Tensor,
    text: Tensor,
    pids: Tensor,
    scale: Tensor,
    *,
    soft_weight: float | Tensor = 0.0,
    soft_image: Tensor | None = None,
    soft_text: Tensor | None = None,
) -> Tensor:
    """Normalised contrastive loss (N-ITC): cross-entropy in both directions, a scalar.

    Labels are equal shares of the matches, of which `soft_weight` is replaced by the softmax of the products
    of `soft_image` and `soft_text` (N, D), the features themselves where None is given. `scale` multiplies
    all products. Labels pass no gradient.
    """
    with torch.no_grad():
        soft = scale * dot_products(
            image if soft_image is None else soft_image, text if soft_text is None else soft_text
        )
        hard = _shares(pids)
        labels = [soft_weight * each.softmax(dim=1) + (1 - soft_weight) * hard for each in (soft, soft.T)]
    logits = scale * dot_products(image, text)
    losses = [
        -(label * F.log_softmax(each, dim=1)).sum(dim=1).mean()
        for each, label in zip((logits, logits.T), labels, strict=True)
    ]
    return (losses[0] + losses[1]) / 2


def caption_loss(
    image: Tensor, text: Tensor, temperature: float = 0.07, pids: Tensor | None = None
) -> Tensor:
    """CLIP's contrast of images and captions, in both directions, a scalar (Radford et al., ICML 2021).

    It is N-ITC without soft labels, of features (N, D) of any length, whose cosines are divided by
    `temperature`. Without `pids` only the own caption of an image is right.
    """
    image, text = (F.normalize(each.float(), dim=1) for each in (image, text))
    pids = torch.arange(len(image), device=image.device) if pids is None else pids
    return nitc_loss(image, text, pids, image.new_full((), 1 / temperature))


def ritc_loss(image: Tensor, text: Tensor, pids: Tensor, scale: Tensor, *, eps: float = 0.01) -> Tensor:
    """Reversed contrastive loss (R-ITC): divergence of predictions from labels in both directions, a scalar.

    The expectation is over the prediction; `eps` is added to the labels, which do not sum to 1 then, so that
    values down to -log(1 + N eps) are normal.
    """
    logits = scale * dot_products(image, text)
    log_labels = (_shares(pids) + eps).log()
    losses = []
    for each in (logits, logits.T):
        log_prediction = F.log_softmax(each, dim=1)
        losses.append((log_prediction.exp() * (log_prediction - log_labels)).sum(dim=1).mean())
    return (losses[0] + losses[1]) / 2


def citc_loss(
    image: Tensor, text: Tensor, *, inmodal_weight: float = 0.25, crossmodal_weight: float = 0.25
) -> Tensor:
    """Cyclic loss (C-ITC; Goel et al., CyCLIP, NeurIPS 2022): mean squared differences of cosines, a scalar.

    Of images against those of texts, and of pairs against their transposes.
    """
    inmodal = (dot_products(image, image) - dot_products(text, text)).square().mean()
    pairs = dot_products(image, text)
    crossmodal = (pairs - pairs.T).square().mean()
    return inmodal_weight * inmodal + crossmodal_weight * crossmodal


def simclr_loss(a: Tensor, b: Tensor, *, temperature: float = 0.1) -> Tensor:
    """NT-Xent of two views (N, D) of N images (SimCLR; Chen et al., ICML 2020, equation 1), a scalar.

    Of all 2N views but itself, each has to find the other view of its image.
    """
    views = torch.cat([a, b])
    count = len(views)
    logits = dot_products(views, views) / temperature
    logits = logits.masked_fill(torch.eye(count, dtype=torch.bool, device=views.device), -torch.inf)
    other = torch.arange(count, device=views.device).roll(len(a))
    return F.cross_entropy(logits, other)


def _shares(pids: Tensor) -> Tensor:
    """(N, N): 1 / matches where row and column have one identity, else 0."""
    same = (pids[:, None] == pids[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)
