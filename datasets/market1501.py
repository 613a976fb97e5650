"""Market-1501 (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015)."""

import re
from pathlib import Path

from datasets.parsing import NameRule, read_named, relabel, require_folder
from datasets.records import ReIDDataset, Trial

FOLDER = "Market-1501-v15.09.15"
# Identity -1 is junk and dropped; identity 0 is background, which stays in the gallery as distractors.
_RULE = NameRule(re.compile(r"([-\d]+)_c(\d)"), cameras=range(1, 7), pids=range(0, 1502), junk=-1)


def market1501(root: Path, *, need_train: bool = True) -> ReIDDataset:
    """Read `root`/Market-1501-v15.09.15: 751 training identities, six cameras, view 0.

    Raises FileNotFoundError for a missing folder, ValueError for a file name or number out of the rule.
    """
    folder = require_folder(root / FOLDER, "bounding_box_train, query, bounding_box_test")
    train = relabel(read_named(folder / "bounding_box_train", "train", _RULE)) if need_train else []
    query = read_named(folder / "query", "query", _RULE)
    gallery = read_named(folder / "bounding_box_test", "gallery", _RULE)
    return ReIDDataset("market1501", train, [Trial(query, gallery)], "person")
