"""CLIP-Adapter: two small layers beside a feature (Gao et al., IJCV 2024, equations 5 and 6)."""

from torch import Tensor, nn


class Adapter(nn.Module):
    """ratio · relu(W2 relu(W1 f)) + (1 - ratio) · f for features f (B, D); W1 is (D / reduction, D).

    Raises ValueError for a reduction that leaves no width.
    """

    def __init__(self, width: int, ratio: float, reduction: int) -> None:
        super().__init__()
        if reduction > width:
            raise ValueError(f"reduction is {reduction}; allowed: up to the width {width} of the feature")
        self.ratio = ratio
        inner = width // reduction
        down, up = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)
        for layer in (down, up):
            nn.init.normal_(layer.weight, std=0.001)
        self.fc = nn.Sequential(down, nn.ReLU(), up, nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """The features (B, D) with the adapter's share."""
        return self.ratio * self.fc(features) + (1 - self.ratio) * features
