"""VehicleID (Liu et al., "Deep Relative Distance Learning", CVPR 2016), tested over ten random draws."""

import random
from pathlib import Path

from datasets.readers.options import DEFAULTS, ReadOptions
from datasets.readers.parsing import label_texts, read_list, relabel, require_folder, require_records
from datasets.records import ImageRecord, ReIDDataset, Trial

FOLDER = "VehicleID_V1.0"
TEST_SIZES = (800, 1600, 2400)
NUM_DRAWS = 10
# There are no cameras: queries and gallery get different ones, so that nothing is removed from a ranking.
_TRAIN_CAMERA, _QUERY_CAMERA, _GALLERY_CAMERA, _VIEW = 0, 0, 1, 1


def vehicleid(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/VehicleID_V1.0 by its list files: ten trials, one random gallery image per identity each.

    The draws depend only on `seed` and the list. Raises FileNotFoundError for a missing folder or list,
    ValueError for another test size, no identity with two images or a bad line (file and line).
    """
    if options.test_size not in TEST_SIZES:
        sizes = ", ".join(map(str, TEST_SIZES))
        raise ValueError(f"test_size is {options.test_size}; allowed: {sizes}")
    folder = require_folder(root / FOLDER, "image, train_test_split")
    lists = require_folder(folder / "train_test_split", "train_list.txt and test_list_*.txt")
    images = folder / "image"
    train = relabel(_read(lists / "train_list.txt", images, "train")) if options.need_train else []
    if not options.need_test:
        return ReIDDataset("VehicleID", train, [Trial([], [])], "vehicle")
    test_list = lists / f"test_list_{options.test_size}.txt"
    records = _read(test_list, images, "test")
    rng = random.Random(options.seed)
    trials = [_draw(records, rng) for _ in range(NUM_DRAWS)]
    require_records(trials[0].query, "query", test_list)
    return ReIDDataset("VehicleID", train, trials, "vehicle")


def _read(file: Path, images: Path, split: str) -> list[ImageRecord]:
    lines = read_list(file, "`image_id vehicle_id`")
    records = [
        ImageRecord(str(images / f"{name}.jpg"), pid, _TRAIN_CAMERA, _VIEW, texts=label_texts(str(pid), ""))
        for name, pid, _ in lines
    ]
    return require_records(records, split, file)


def _draw(records: list[ImageRecord], rng: random.Random) -> Trial:
    """One trial: a random image of every identity goes to the gallery, the others are queries."""
    by_pid: dict[int, list[int]] = {}
    for index, record in enumerate(records):
        by_pid.setdefault(record.pid, []).append(index)
    drawn = {rng.choice(indices) for indices in by_pid.values()}
    query = [r._replace(camid=_QUERY_CAMERA) for i, r in enumerate(records) if i not in drawn]
    gallery = [r._replace(camid=_GALLERY_CAMERA) for i, r in enumerate(records) if i in drawn]
    return Trial(query, gallery)
