"""The losses of the image tower: identity, triplet, image-to-text; centre and prototypes when asked for.

CLIP-ReID (Li, Sun, Li, AAAI 2023), equations 6 to 9; PCL-CLIP (Li, Gong, arXiv 2310.17218).
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loss.center import CenterLoss
from loss.contrastive import dot_products
from loss.prototype import PrototypeMemory
from loss.triplet import batch_hard_triplet


class TrainingOutput(Protocol):
    """The part of a model's training output that the losses read.

    Logits (B, C), three features, the projected feature (B, P), two features after the neck (B, D), (B, P).
    """

    logits: tuple[Tensor, ...]
    metric: tuple[Tensor, ...]
    projected: Tensor
    necks: tuple[Tensor, ...]


class ReIDLoss(nn.Module):
    """Named, weighted terms whose sum is minimised.

    Args:
        id_weight, triplet_weight, i2t_weight: weights of the terms; without weight triplets are left out.
        smoothing: label smoothing of the two cross-entropies, 0 for none.
        margin: of the triplet loss; None is the soft margin.
        center: centre loss on the tower's feature, or None; `center_weight` and `center_rate` belong to it.
        teacher_weight: weight of the smooth L1 loss to a teacher's features (PromptSRC, Khattak et al. 2023);
            `teacher_feature`: which feature is compared, 'feat_proj' or 'feat'.
        memory: prototypes of the features after the neck, or None; `pcl_weight` is the weight of its loss.
    """

    def __init__(
        self,
        *,
        id_weight: float = 1.0,
        triplet_weight: float = 1.0,
        i2t_weight: float = 1.0,
        smoothing: float = 0.1,
        margin: float | None = 0.3,
        center: CenterLoss | None = None,
        center_weight: float = 0.0005,
        center_rate: float = 0.5,
        memory: PrototypeMemory | None = None,
        pcl_weight: float = 1.0,
        teacher_weight: float = 0.0,
        teacher_feature: str = "feat_proj",
    ) -> None:
        super().__init__()
        self.teacher_weight, self.teacher_feature = teacher_weight, teacher_feature
        self.id_weight, self.triplet_weight, self.i2t_weight = id_weight, triplet_weight, i2t_weight
        self.smoothing, self.margin = smoothing, margin
        self.center, self.center_weight, self.center_rate = center, center_weight, center_rate
        self.memory, self.pcl_weight = memory, pcl_weight
        # Features and identities of the last batch.
        self._center_batch: tuple[Tensor, Tensor] | None = None
        self._memory_batch: tuple[Tensor, Tensor] | None = None

    def forward(
        self,
        output: TrainingOutput,
        pids: Tensor,
        text_features: Tensor | None = None,
        teacher_features: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Terms `id`, `triplet`, `i2t`, `teacher`, `center`, `pcl`, as far as they are used; each a scalar.

        `i2t` needs text features (C, P), `teacher` features of a teacher, (B, P) or (B, D).

        The image-to-text logits are plain dot products, without temperature or L2 norm, as published.
        """
        terms = {}
        if output.logits:
            terms["id"] = self.id_weight * sum(self._cross_entropy(logits, pids) for logits in output.logits)
        if self.triplet_weight:
            triplets = (batch_hard_triplet(feature, pids, self.margin) for feature in output.metric)
            terms["triplet"] = self.triplet_weight * sum(triplets)
        if text_features is not None:
            terms["i2t"] = self.i2t_weight * self._cross_entropy(
                dot_products(output.projected, text_features), pids
            )
        if teacher_features is not None:
            feature = output.projected if self.teacher_feature == "feat_proj" else output.metric[1]
            terms["teacher"] = self.teacher_weight * F.smooth_l1_loss(
                feature.float(), teacher_features.float()
            )
        if self.center is not None:
            feature = output.metric[1]
            terms["center"] = self.center_weight * self.center(feature, pids)
            self._center_batch = feature.detach(), pids
        if self.memory is not None:
            feature = torch.cat(output.necks, dim=1)
            terms["pcl"] = self.pcl_weight * self.memory(feature, pids)
            self._memory_batch = feature.detach(), pids
        return terms

    def after_step(self) -> None:
        """Move centres and prototypes by the last batch, where there are any."""
        if self.center is not None and self._center_batch is not None:
            self.center.update(*self._center_batch, self.center_rate)
        if self.memory is not None and self._memory_batch is not None:
            self.memory.update(*self._memory_batch)

    def _cross_entropy(self, logits: Tensor, pids: Tensor) -> Tensor:
        # In float32 on every device: not all autocasts do that by themselves.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(logits, pids, label_smoothing=self.smoothing)
