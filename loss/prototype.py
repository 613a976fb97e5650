"""Prototype contrastive loss: features against one prototype of each identity (or cluster).

Li, Gong, "Prototypical Contrastive Learning-based CLIP Fine-tuning for Object Re-identification", arXiv
2310.17218, 2023, section III.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loss.contrastive import dot_products

UPDATES = ("hard", "all")


class PrototypeMemory(nn.Module):
    """A unit vector for each identity, moved by the features of every batch; no gradient reaches it.

    The prototypes are a buffer (C, D). It is empty before the first `rebuild`, and each may give it another
    number of rows.

    Args:
        momentum: what is kept of a prototype in an update, 0 to 1.
        temperature: cosine similarities are divided by it.
        update: 'hard' moves a prototype by the least similar feature of its identity in the batch, 'all' by
            one feature of its identity after the other.

    Raises ValueError for another `update`, a momentum outside 0 to 1 or a temperature that is not positive.
    """

    def __init__(self, *, momentum: float = 0.2, temperature: float = 0.05, update: str = "hard") -> None:
        super().__init__()
        if update not in UPDATES:
            raise ValueError(f"update is {update!r}; allowed: {', '.join(map(repr, UPDATES))}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}; allowed: 0 to 1")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; allowed: above 0")
        self.momentum, self.temperature = momentum, temperature
        self._move = _move_by_hardest if update == "hard" else _move_by_all
        self.register_buffer("prototypes", torch.empty(0, 0))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Loss of features (B, D) of any length with labels (B,) of 0..C-1, a scalar.

        The mean cross-entropy of cosine similarities to all prototypes, divided by the temperature.
        """
        similarity = dot_products(_unit(features), self.prototypes)  # (B, C)
        return F.cross_entropy(similarity / self.temperature, labels)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the prototypes of the identities in a batch: features (B, D), labels (B,).

        K <- normalised(momentum·K + (1 − momentum)·x), once the gradients of the batch are computed. An
        identity with features that are not finite keeps its prototype.
        """
        former = self.prototypes[labels]  # (B, D)
        moved = self._move(former, _unit(features), labels, self.momentum)
        moved = torch.where(moved.isfinite().all(dim=1, keepdim=True), moved, former)
        # Rows of one identity are equal, so it does not matter which of them is written last.
        self.prototypes.index_copy_(0, labels, moved)

    @torch.no_grad()
    def rebuild(self, features: Tensor, labels: Tensor) -> None:
        """Forget all; prototypes are the normalised means of the normalised features of each label.

        Features (N, D), labels (N,) of 0..C-1; a label below 0 belongs to no prototype. Raises ValueError
        where a label between has no feature.
        """
        labels = labels.to(features.device)
        known = labels >= 0
        features, labels = _unit(features[known]), labels[known]
        counts = torch.bincount(labels)
        if not counts.all():
            missing = int((counts == 0).nonzero()[0])
            raise ValueError(
                f"no feature of label {missing}; allowed: one or more of each of 0 to {len(counts) - 1}"
            )
        sums = features.new_zeros(len(counts), features.shape[1]).index_add_(0, labels, features)
        self.prototypes = F.normalize(sums / counts[:, None])


def _unit(features: Tensor) -> Tensor:
    """Features of length 1, in float32 or finer."""
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)))


def _moved(prototypes: Tensor, features: Tensor, momentum: float) -> Tensor:
    mixed = momentum * prototypes + (1 - momentum) * features
    return mixed / mixed.norm(dim=1, keepdim=True)


def _move_by_hardest(prototypes: Tensor, features: Tensor, labels: Tensor, momentum: float) -> Tensor:
    """New prototypes (B, D) of the identities of each row; of equally similar features the first counts."""
    similarity = (prototypes * features).sum(dim=1)
    same = labels[:, None] == labels
    hardest = torch.where(same, similarity, torch.inf).argmin(dim=1)  # (B,), one number within an identity
    return _moved(prototypes, features[hardest], momentum)


def _move_by_all(prototypes: Tensor, features: Tensor, labels: Tensor, momentum: float) -> Tensor:
    """Move prototypes by every feature in the order of the batch, one feature of each identity at a time.

    The number of rounds forces a device sync.
    """
    same = labels[:, None] == labels
    turn = same.tril(diagonal=-1).sum(dim=1)  # (B,), how many of its identity come before
    for number in range(int(turn.max()) + 1):
        is_next = same & (turn == number)
        moved = _moved(prototypes, features[is_next.int().argmax(dim=1)], momentum)
        prototypes = torch.where(is_next.any(dim=1, keepdim=True), moved, prototypes)
    return prototypes
