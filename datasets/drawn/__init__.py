"""Drawn people in the form of Market-1501: a data set that needs no download."""

from datasets.drawn.market import FOLDER, draw_market1501

__all__ = ["FOLDER", "draw_market1501"]
