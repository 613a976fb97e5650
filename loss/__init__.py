"""What is minimised: pure functions and small modules that follow their inputs' device."""

from loss.contrastive import supcon_loss
from loss.make_loss import make_loss
from loss.reid_loss import ReIDLoss
from loss.triplet import batch_hard_triplet

__all__ = ["ReIDLoss", "batch_hard_triplet", "make_loss", "supcon_loss"]
