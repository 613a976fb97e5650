"""VehicleID (Liu et al., "Deep Relative Distance Learning", CVPR 2016), tested over ten random draws."""

import random
from pathlib import Path

from datasets.readers.parsing import listed_path, read_list, relabel, require_folder, require_records
from datasets.records import ImageRecord, ReIDDataset, Trial

FOLDER = "VehicleID_V1.0"
TEST_SIZES = (800, 1600, 2400)
NUM_DRAWS = 10
# There are no cameras: queries and gallery get different ones, so that nothing is removed from a ranking.
_TRAIN_CAMERA, _QUERY_CAMERA, _GALLERY_CAMERA, _VIEW = 0, 0, 1, 1


def vehicleid(
    root: Path, *, test_size: int = 800, seed: int = 0, need_train: bool = True, allow_outside: bool = False
) -> ReIDDataset:
    """Read `root`/VehicleID_V1.0 by its list files: ten trials, one random gallery image per identity each.

    The draws depend on `seed` and the list alone. Raises FileNotFoundError for a missing folder or list,
    ValueError for another test size, no identity with two images, a bad line (file and line) or, unless
    `allow_outside`, an image outside of `root`.
    """

    def read(file: Path, split: str) -> list[ImageRecord]:
        images = folder / "image"
        records = [
            ImageRecord(
                listed_path(f"{name}.jpg", images, root, where, allow_outside=allow_outside),
                pid,
                _TRAIN_CAMERA,
                _VIEW,
            )
            for name, pid, where in read_list(file, "`image_id vehicle_id`")
        ]
        return require_records(records, split, file)

    if test_size not in TEST_SIZES:
        raise ValueError(f"VehicleID test size {test_size}, allowed are {', '.join(map(str, TEST_SIZES))}")
    folder = require_folder(root / FOLDER, "image, train_test_split")
    lists = require_folder(folder / "train_test_split", "train_list.txt and test_list_*.txt")
    train: list[ImageRecord] = []
    if need_train:
        train = relabel(read(lists / "train_list.txt", "train"))
    test_list = lists / f"test_list_{test_size}.txt"
    records = read(test_list, "test")
    rng = random.Random(seed)
    trials = [_draw(records, rng) for _ in range(NUM_DRAWS)]
    require_records(trials[0].query, "query", test_list)
    return ReIDDataset("VehicleID", train, trials, "vehicle")


def _draw(records: list[ImageRecord], rng: random.Random) -> Trial:
    """One trial: of every identity one random image to the gallery, the others to the queries."""
    by_pid: dict[int, list[int]] = {}
    for index, record in enumerate(records):
        by_pid.setdefault(record.pid, []).append(index)
    drawn = {rng.choice(indices) for indices in by_pid.values()}
    query = [r._replace(camid=_QUERY_CAMERA) for i, r in enumerate(records) if i not in drawn]
    gallery = [r._replace(camid=_GALLERY_CAMERA) for i, r in enumerate(records) if i in drawn]
    return Trial(query, gallery)
