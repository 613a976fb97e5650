"""A frozen image tower whose features another one stays near.

PromptSRC (Khattak et al., ICCV 2023), section 3.2.1.
"""

import torch
from torch import Tensor

from model.towers.image import Backbone
from utils.device import move_module


class Teacher:
    """Features of a frozen tower in evaluation mode; it is in no state dict and no optimizer.

    `feature` names the field of the tower's `ImageFeatures`. The tower follows its images' device.
    """

    def __init__(self, tower: Backbone, feature: str) -> None:
        self.tower, self.feature = tower.eval().requires_grad_(False), feature

    def require_width(self, student: Backbone) -> None:
        """Raise ValueError where the student's feature has another width."""
        teaches, learns = (
            tower.projected_width if self.feature == "feat_proj" else tower.width
            for tower in (self.tower, student)
        )
        if teaches != learns:
            raise ValueError(
                f"teacher has a {self.feature} of {teaches} numbers; allowed: {learns}, as the model has"
            )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, H, W)."""
        if next(self.tower.parameters()).device != images.device:
            move_module(self.tower, images.device)
        return getattr(self.tower(images), self.feature)
