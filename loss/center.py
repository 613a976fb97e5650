"""Centre loss (Wen et al. 2016, equation 2): one centre an identity, to which its features are drawn."""

import torch
from torch import Tensor, nn


class CenterLoss(nn.Module):
    """Mean squared distance of features to the centres of their identities.

    The centres do not go through the optimizer of the model: `update` moves them by plain gradient descent,
    whose gradient is known in closed form, at a rate of their own.

    Args:
        num_classes: identities C.
        width: feature width D.
    """

    centers: Tensor

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.randn(num_classes, width))

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Loss of features (B, D) with identities (B,), a scalar."""
        return (features.float() - self.centers[pids]).square().sum(dim=1).mean()

    @torch.no_grad()
    def update(self, features: Tensor, pids: Tensor, rate: float) -> None:
        """One step of gradient descent of the centres on the loss of this batch."""
        gradient = 2 / len(pids) * (self.centers[pids] - features.float())
        # Where a step's numbers are not finite, the gradient scaler leaves it out.
        gradient = torch.where(gradient.isfinite().all(), gradient, 0.0)
        self.centers.index_add_(0, pids, gradient, alpha=-rate)
