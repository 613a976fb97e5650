"""Freezing the text tower of a text search model, so that only images learn to match its sentences."""

import logging

from model.dual import DualModel

_logger = logging.getLogger("transreid.model")


def freeze_text(model: DualModel) -> None:
    """Freeze the whole text tower, its head included, and leave out its dropout; log what still learns.

    Its features are then constants to every loss, and the soft labels of texts are those features.
    """
    tower = model.encode_text
    tower.requires_grad_(False)
    rate, tower.dropout = tower.dropout, 0.0
    frozen = sum(parameter.numel() for parameter in tower.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    unused = f"; its dropout of {rate:g} is not used" if rate else ""
    text = "the text tower is frozen: its %s parameters do not learn, %s others do%s"
    _logger.info(text, f"{frozen:,}", f"{trained:,}", unused)
