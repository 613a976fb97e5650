"""DukeMTMC-reID (Zheng et al., ICCV 2017) and Occluded-Duke (Miao et al., ICCV 2019)."""

import re
from pathlib import Path

from datasets.readers.options import DEFAULTS, ReadOptions
from datasets.readers.parsing import NameRule, read_named, relabel, require_folder
from datasets.records import ReIDDataset, Trial

_RULE = NameRule(re.compile(r"([-\d]+)_c(\d)"), cameras=range(1, 9), pids=range(0, 10_000))


def dukemtmc(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/dukemtmcreid/DukeMTMC-reID: 702 training identities, eight cameras, view 0.

    Raises FileNotFoundError for a missing folder, ValueError for a file name or number out of the rule.
    """
    return _read("dukemtmc", root / "dukemtmcreid" / "DukeMTMC-reID", 0, options)


def occ_duke(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/dukemtmcreid/Occluded_Duke, whose queries are occluded; view 1 as published.

    Raises as `dukemtmc` does.
    """
    return _read("occ_duke", root / "dukemtmcreid" / "Occluded_Duke", 1, options)


def _read(name: str, folder: Path, viewid: int, options: ReadOptions) -> ReIDDataset:
    require_folder(folder, "bounding_box_train, query, bounding_box_test")
    train = []
    if options.need_train:
        train = relabel(read_named(folder / "bounding_box_train", "train", _RULE, viewid))
    query = read_named(folder / "query", "query", _RULE, viewid)
    gallery = read_named(folder / "bounding_box_test", "gallery", _RULE, viewid)
    return ReIDDataset(name, train, [Trial(query, gallery)], "person")
