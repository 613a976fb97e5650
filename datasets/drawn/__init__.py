"""Drawn people in the form of Market-1501, with captions, or over days: data sets that need no download."""

from datasets.drawn.captions import draw_captions
from datasets.drawn.days import DrawnDays, draw_days
from datasets.drawn.languages import LANGUAGES
from datasets.drawn.market import FOLDER, draw_market1501
from datasets.drawn.scenes import DOMAINS

__all__ = ["DOMAINS", "FOLDER", "LANGUAGES", "DrawnDays", "draw_captions", "draw_days", "draw_market1501"]
