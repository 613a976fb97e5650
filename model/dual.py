"""The text search model: image and text tower in one space, with a temperature and the heads of its losses.

TBPS-CLIP (Cao, Bai, Zeng, Ye, Zhang, AAAI 2024). Parts have their published names.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from model.towers.image import Backbone, ViTBackbone
from model.towers.multilingual import MultilingualText
from model.towers.parts import in_parts
from model.towers.text import ClipText

MOST_SCALE = 100.0


class DualModel(nn.Module):
    """Image tower and text tower whose features (B, P) are compared by cosine.

    `encode_text(tokens, seeds=None)` gives features (B, P) of tokens (B, n): see `ClipText` and
    `MultilingualText`.

    Args:
        visual: the image tower.
        text: the text tower.
        log_scale: logarithm of the factor of cosines in the losses.
        simclr: widths of the head of self-supervision, or none of it.
        num_classes: identities of the classifier; 0 for none.
        more: further modules by the names that they get, as `masked_word_parts` gives them.
        micro_batch: images whose activations are held at a time in training; 0 for all.

    Raises ValueError for towers or a head of other widths, and a micro batch with an image tower whose
    features of an image depend on the rest of the batch.
    """

    encode_text: ClipText | MultilingualText
    simclr_mlp: nn.Module
    classifier: nn.Module

    def __init__(
        self,
        visual: Backbone,
        text: ClipText | MultilingualText,
        *,
        log_scale: float,
        simclr: Sequence[int] = (),
        num_classes: int = 0,
        more: Mapping[str, nn.Module] | None = None,
        micro_batch: int = 0,
    ) -> None:
        super().__init__()
        width = visual.projected_width
        if micro_batch and not visual.separates_images:
            raise ValueError(
                f"micro_batch is {micro_batch}; allowed with this image tower: 0, because its batch norms "
                "need the whole batch"
            )
        if simclr and simclr[0] != width:
            raise ValueError(f"simclr is {list(simclr)}; allowed: {width}, the width of the features, first")
        self.visual, self.encode_text = visual, text
        self.logit_scale = nn.Parameter(torch.tensor(float(log_scale)))
        self.micro_batch, self.num_classes = micro_batch, num_classes
        if simclr:
            self.simclr_mlp = nn.Sequential(
                nn.Linear(simclr[0], simclr[1]), nn.ReLU(), nn.Linear(simclr[1], simclr[2])
            )
        if num_classes:
            self.classifier = nn.Linear(width, num_classes)
            nn.init.normal_(self.classifier.weight, std=0.001)
            nn.init.zeros_(self.classifier.bias)
        for name, module in (more or {}).items():
            self.add_module(name, module)

    @property
    def feature_width(self) -> int:
        """Width P of the features."""
        return self.visual.projected_width

    def encode_image(self, images: Tensor) -> Tensor:
        """Projected features (B, P) of images (B, 3, H, W), not normalised."""
        return in_parts(self, self._project, self.micro_batch, images)

    def encode_image_tokens(self, images: Tensor) -> Tensor:
        """Projected features (B, t, P) of all tokens of images (B, 3, H, W), the image's own first.

        Raises ValueError for an image tower without tokens.
        """
        if not isinstance(self.visual, ViTBackbone):
            raise ValueError("this image tower has no tokens, which the masked language model needs")
        return in_parts(self, self.visual.encode_tokens, self.micro_batch, images)

    def _project(self, images: Tensor) -> Tensor:
        return self.visual(images).feat_proj

    def scale(self) -> Tensor:
        """The factor of cosines, at most 100, a scalar.

        As published, its derivative by `logit_scale` is not cut: the clamp is passed straight through.
        """
        scale = self.logit_scale.exp()
        return scale + (scale.clamp(max=MOST_SCALE) - scale).detach()
