"""DukeMTMC-reID (Zheng et al., ICCV 2017) and Occluded-Duke (Miao et al., ICCV 2019)."""

from collections.abc import Sequence
from pathlib import Path

from datasets.readers.options import DEFAULTS, ReadOptions
from datasets.readers.parsing import SPLIT_FOLDERS, NameRule, first_folder, read_named, relabel
from datasets.records import ReIDDataset, Trial

_FOLDER = "DukeMTMC-reID"
_RULE = NameRule(cameras=range(1, 9), pids=range(0, 10_000))


def dukemtmc(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/dukemtmcreid/DukeMTMC-reID or, if it is missing, `root`/DukeMTMC-reID.

    There are 702 training identities and eight cameras; the view is 0. Raises FileNotFoundError for a missing
    folder, ValueError for a file name or number out of the rule.
    """
    return _read("dukemtmc", [root / "dukemtmcreid" / _FOLDER, root / _FOLDER], 0, options)


def occ_duke(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/dukemtmcreid/Occluded_Duke, whose queries are occluded; view 1 as published.

    Raises as `dukemtmc` does.
    """
    return _read("occ_duke", [root / "dukemtmcreid" / "Occluded_Duke"], 1, options)


def _read(name: str, folders: Sequence[Path], viewid: int, options: ReadOptions) -> ReIDDataset:
    folder = first_folder(folders, ", ".join(SPLIT_FOLDERS))
    train, query, gallery = read_named(folder, SPLIT_FOLDERS, _RULE, options, viewid)
    return ReIDDataset(name, relabel(train), [Trial(query, gallery)], "person")
