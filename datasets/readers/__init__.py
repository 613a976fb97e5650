"""Readers of data sets, one file each, and the table of them.

A reader turns a folder into records: it takes the folder that holds the data sets and `ReadOptions`, and
returns a `ReIDDataset`. A new data set is a file here and a row in `READERS`.
"""

from collections.abc import Callable
from pathlib import Path

from datasets.readers.custom import csv_dataset, folder_dataset
from datasets.readers.dukemtmc import dukemtmc, occ_duke
from datasets.readers.market1501 import market1501
from datasets.readers.msmt17 import msmt17
from datasets.readers.options import ReadOptions
from datasets.readers.vehicleid import vehicleid
from datasets.readers.veri import veri
from datasets.records import ReIDDataset

__all__ = ["READERS", "ReadOptions", "Reader"]

Reader = Callable[[Path, ReadOptions], ReIDDataset]

READERS: dict[str, Reader] = {
    "market1501": market1501,
    "dukemtmc": dukemtmc,
    "occ_duke": occ_duke,
    "msmt17": msmt17,
    "veri": veri,
    "VehicleID": vehicleid,
    "csv": csv_dataset,
    "folder": folder_dataset,
}
