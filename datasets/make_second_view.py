"""From the configuration to the second view of test images."""

from collections.abc import Sequence

from yacs.config import CfgNode

from datasets.pixels.transforms import PixelTransform
from datasets.pixels.views import SecondView, draw_crops
from datasets.records import ImageRecord


def make_second_view(cfg: CfgNode, records: Sequence[ImageRecord]) -> SecondView | None:
    """The view of TEST.AUGMENT for the images of a test, whose order decides the crops; None for 'none'."""
    if cfg.TEST.AUGMENT == "none":
        return None
    pixels = PixelTransform(tuple(cfg.INPUT.PIXEL_MEAN), tuple(cfg.INPUT.PIXEL_STD))
    if cfg.TEST.AUGMENT == "flip":
        return SecondView(pixels)
    return SecondView(pixels, draw_crops([record.key for record in records], cfg.SOLVER.SEED))
