"""Market-1501 (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015)."""

from pathlib import Path

from datasets.readers.options import DEFAULTS, ReadOptions
from datasets.readers.parsing import SPLIT_FOLDERS, NameRule, first_folder, read_named, relabel
from datasets.records import ReIDDataset, Trial

FOLDER = "Market-1501-v15.09.15"
_OTHER_FOLDER = "Market1501"  # the folder of published PCL-CLIP
# Identity -1 is junk and dropped; identity 0 is background, which stays in the gallery as distractors.
_RULE = NameRule(cameras=range(1, 7), pids=range(0, 1502), junk=-1)


def market1501(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/Market-1501-v15.09.15 or, if it is missing, `root`/Market1501.

    There are 751 training identities and six cameras; the view is 0. Raises FileNotFoundError for a missing
    folder, ValueError for a file name or number out of the rule.
    """
    folders = [root / FOLDER, root / _OTHER_FOLDER]
    folder = first_folder(folders, ", ".join(SPLIT_FOLDERS))
    train, query, gallery = read_named(folder, SPLIT_FOLDERS, _RULE, options)
    return ReIDDataset("market1501", relabel(train), [Trial(query, gallery)], "person")
