"""Drawn people in the form of Market-1501, or with captions: data sets that need no download."""

from datasets.drawn.captions import draw_captions
from datasets.drawn.market import FOLDER, draw_market1501
from datasets.drawn.scenes import DOMAINS

__all__ = ["DOMAINS", "FOLDER", "draw_captions", "draw_market1501"]
