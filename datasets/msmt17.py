"""MSMT17 (Wei et al., "Person Transfer GAN to Bridge Domain Gap", CVPR 2018), first release and V2."""

from collections.abc import Iterator
from pathlib import Path

from datasets.parsing import (
    is_number,
    listed_path,
    quote,
    read_list,
    relabel,
    require_folder,
    require_records,
)
from datasets.records import ImageRecord, ReIDDataset, Trial

FOLDER = "MSMT17"
# (training folder, test folder) of each release; V2 has the faces masked.
_RELEASES = (("train", "test"), ("mask_train_v2", "mask_test_v2"))
_CAMERAS = range(1, 16)


def msmt17(root: Path, *, need_train: bool = True, allow_outside: bool = False) -> ReIDDataset:
    """Read `root`/MSMT17 by its list files; train is list_train.txt with list_val.txt; 15 cameras, view 0.

    Raises FileNotFoundError for a missing folder or list, ValueError (file and line) for a bad line or,
    unless `allow_outside`, an image outside of `root`.
    """

    def read(file: Path, images: Path, split: str) -> list[ImageRecord]:
        records = [
            record._replace(path=listed_path(record.path, images, root, where, allow_outside=allow_outside))
            for record, where in _read(file)
        ]
        return require_records(records, split, file)

    folder = require_folder(root / FOLDER, "test or mask_test_v2, list_query.txt, list_gallery.txt")
    train_images, test_images = _release(folder, need_train)
    train: list[ImageRecord] = []
    if need_train:
        lists = (folder / "list_train.txt", folder / "list_val.txt")
        train = relabel([record for file in lists for record in read(file, train_images, "train")])
    query = read(folder / "list_query.txt", test_images, "query")
    gallery = read(folder / "list_gallery.txt", test_images, "gallery")
    return ReIDDataset("msmt17", train, [Trial(query, gallery)], "person")


def _release(folder: Path, need_train: bool) -> tuple[Path, Path]:
    for train, test in _RELEASES:
        if (folder / test).is_dir():
            if need_train:
                require_folder(folder / train, f"the train images of the release that has {test}")
            return folder / train, folder / test
    tests = " or ".join(test for _, test in _RELEASES)
    raise FileNotFoundError(f"{folder}: no folder with test images, expected there: {tests}")


def _read(file: Path) -> Iterator[tuple[ImageRecord, str]]:
    """Records with the path as it is listed, and "file:line"."""
    for name, pid, where in read_list(file, "`relative/path.jpg pid`"):
        parts = name.rpartition("/")[2].split("_")
        camera = parts[2] if len(parts) > 2 else ""
        if not (is_number(camera) and int(camera) in _CAMERAS):
            raise ValueError(
                f"{where}: camera {quote(camera)} in {quote(name)}, allowed as third field of the file name"
                f" are {_CAMERAS.start} to {_CAMERAS.stop - 1}"
            )
        yield ImageRecord(name, pid, int(camera) - _CAMERAS.start, 0), where
