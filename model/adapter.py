"""CLIP-Adapter: two small layers beside a feature (Gao et al., IJCV 2024, equations 5 and 6)."""

from torch import Tensor, nn


class Adapter(nn.Module):
    """ratio · relu(W2 relu(W1 f)) + (1 - ratio) · f for features f (B, D); W1 is (inner, D).

    Raises ValueError for an inner width below 1.
    """

    def __init__(self, width: int, ratio: float, inner: int) -> None:
        super().__init__()
        if inner < 1:
            raise ValueError(f"the inner width of an adapter is {inner}; allowed: 1 or more")
        self.ratio = ratio
        down, up = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)
        for layer in (down, up):
            nn.init.normal_(layer.weight, std=0.001)
        self.fc = nn.Sequential(down, nn.ReLU(), up, nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """The features (B, D) with the adapter's share."""
        return self.ratio * self.fc(features) + (1 - self.ratio) * features
