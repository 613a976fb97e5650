"""What is minimised: pure functions and small modules that follow their inputs' device."""

from loss.contrastive import dot_products, supcon_loss
from loss.make_loss import make_loss
from loss.pairs import caption_loss, citc_loss, nitc_loss, ritc_loss, simclr_loss
from loss.prototype import PrototypeMemory
from loss.terms import ReIDLoss
from loss.triplet import batch_hard_triplet

__all__ = [
    "PrototypeMemory",
    "ReIDLoss",
    "batch_hard_triplet",
    "caption_loss",
    "citc_loss",
    "dot_products",
    "make_loss",
    "nitc_loss",
    "ritc_loss",
    "simclr_loss",
    "supcon_loss",
]
