"""VeRi-776 (Liu et al., ECCV 2016) with viewpoints.

Viewpoint labels are those of Wang et al., "Orientation Invariant Feature Embedding", ICCV 2017: 0 front,
1 rear, 2 left, 3 left-front, 4 left-rear, 5 right, 6 right-front, 7 right-rear.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from datasets.readers.options import DEFAULTS, ReadOptions
from datasets.readers.parsing import (
    NameRule,
    read_named,
    relabel,
    require_folder,
    require_records,
)
from datasets.records import ImageRecord, ReIDDataset, Trial
from utils.notes import without
from utils.text import quoted
from utils.untrusted.plain import read_plain_lines

FOLDER = "VeRi"
_SPLIT_FOLDERS = ("image_train", "image_query", "image_test")
_RULE = NameRule(cameras=range(1, 21), pids=range(0, 777), junk=-1)
_TRAIN_LABELS, _TEST_LABELS = "keypoint_train.txt", "keypoint_test.txt"
_LABEL_SOURCE = "https://github.com/Zhongdao/VehicleReIDKeyPointData"
_FIELDS, _VIEWS = 42, 8  # path, 20 pairs of coordinates, orientation

_logger = logging.getLogger("transreid.datasets")


def veri(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/VeRi; viewpoints from keypoint_train.txt and keypoint_test.txt in `root`/VeRi or `root`.

    With the label files, unlabelled images are left out and counted in the log; without them every view is 0.
    Raises FileNotFoundError for a missing folder, or label file with `need_views`; ValueError for a bad name
    or label line.
    """
    folder = require_folder(root / FOLDER, ", ".join(_SPLIT_FOLDERS))
    views = _find_views(folder, root, options)
    train, query, gallery = read_named(folder, _SPLIT_FOLDERS, _RULE, options)
    if views is not None:
        splits = (("train", train), ("query", query), ("gallery", gallery))
        train, query, gallery = (_labelled(records, split, views) for split, records in splits)
    return ReIDDataset("veri", relabel(train), [Trial(query, gallery)], "vehicle")


def _find_views(folder: Path, root: Path, options: ReadOptions) -> dict[str, int] | None:
    """File name → view, or None if the label files are absent and not needed."""
    places = {name: (folder / name, root / name) for name in (_TEST_LABELS, _TRAIN_LABELS)}
    found: dict[str, Path] = {}
    for name, paths in places.items():
        for path in paths:
            if path.exists():
                found.setdefault(name, path)
    needed = ((_TRAIN_LABELS, options.need_train), (_TEST_LABELS, options.need_test))
    for name, is_needed in needed:
        if name in found or not is_needed:
            continue
        expected = " or ".join(map(str, places[name]))
        if options.need_views:
            raise FileNotFoundError(
                f"viewpoint labels missing, expected {expected}: get it at {_LABEL_SOURCE}"
            )
        _logger.info("VeRi: no viewpoint labels at %s, every image gets view 0", expected)
        return None
    views: dict[str, int] = {}
    for name in (_TEST_LABELS, _TRAIN_LABELS):  # the train file is read last, so that its label wins
        if name in found:
            views.update(_read_views(found[name]))
    return views


def _read_views(file: Path) -> dict[str, int]:
    views = {}
    for number, line in enumerate(read_plain_lines(file), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != _FIELDS:
            raise ValueError(f"{file}:{number}: {len(fields)} fields, allowed are {_FIELDS}")
        if fields[-1] not in map(str, range(_VIEWS)):
            raise ValueError(
                f"{file}:{number}: orientation {quoted(fields[-1])}, allowed are 0 to {_VIEWS - 1}"
            )
        views[Path(fields[0]).name] = int(fields[-1])
    return views


def _labelled(records: list[ImageRecord], split: str, views: Mapping[str, int]) -> list[ImageRecord]:
    if not records:  # not asked for
        return []
    folder = Path(records[0].path).parent
    names = [Path(record.path).name for record in records]
    labelled = [
        record._replace(viewid=views[name])
        for record, name in zip(records, names, strict=True)
        if name in views
    ]
    _logger.info(
        "VeRi %s: %d of %d images have no viewpoint label and are left out",
        split,
        len(records) - len(labelled),
        len(records),
        extra=without({"images without viewpoint label": len(records) - len(labelled)}),
    )
    return require_records(labelled, f"{split} (with viewpoint label)", folder)
