"""A gallery as a service: questions of many at once, over HTTP and in a page.

This is the face of the room; `service.api` is the server, which needs the packages of `[serve]`.
"""

from service.batching import Batcher, Busy
from service.finder import Answer, Finder, Key, Picture, SearchOptions, Sentence, Settings
from service.thresholds import read_threshold

__all__ = [
    "Answer",
    "Batcher",
    "Busy",
    "Finder",
    "Key",
    "Picture",
    "SearchOptions",
    "Sentence",
    "Settings",
    "read_threshold",
]
