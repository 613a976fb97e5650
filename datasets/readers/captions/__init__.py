"""Readers of data sets of captions, and the table of them.

A reader takes the folder that holds the data sets and `CaptionOptions`, and returns a `CaptionDataset`.
"""

from collections.abc import Callable
from pathlib import Path

from datasets.readers.captions.described import CaptionOptions
from datasets.readers.captions.own import csv_captions, folder_captions
from datasets.readers.captions.published import cuhk_pedes, icfg_pedes, prepared, rstpreid
from datasets.records import CaptionDataset

__all__ = ["CAPTION_READERS", "CaptionOptions", "CaptionReader"]

CaptionReader = Callable[[Path, CaptionOptions], CaptionDataset]

CAPTION_READERS: dict[str, CaptionReader] = {
    "cuhk_pedes": cuhk_pedes,
    "icfg_pedes": icfg_pedes,
    "rstpreid": rstpreid,
    "captions": prepared,
    "csv": csv_captions,
    "folder": folder_captions,
}
