"""MSMT17 (Wei et al., "Person Transfer GAN to Bridge Domain Gap", CVPR 2018), first release and V2.

V2 also in the form of published PCL-CLIP: the folders of Market-1501, with names like 0000_c1_0000.jpg.
"""

import logging
from pathlib import Path

from datasets.readers.options import DEFAULTS, ReadOptions
from datasets.readers.parsing import (
    SPLIT_FOLDERS,
    NameRule,
    first_folder,
    is_number,
    label_texts,
    read_list,
    read_named,
    relabel,
    require_folder,
    require_records,
)
from datasets.records import ImageRecord, ReIDDataset, Trial
from utils.text import quoted

FOLDER = "MSMT17"
_OTHER_FOLDER = "MSMT17_V2"  # the folder of published Multimodal-ReID
_V2 = "V2"  # which has the faces masked
# Release, training folder, test folder.
_RELEASES = (("V1", "train", "test"), (_V2, "mask_train_v2", "mask_test_v2"))
_CAMERAS = range(1, 16)
_TRAIN, _QUERY, _GALLERY = SPLIT_FOLDERS
_logger = logging.getLogger("transreid.datasets")
_RULE = NameRule(cameras=_CAMERAS, pids=range(0, 10_000), junk=-1)


def msmt17(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/MSMT17 or, if it is missing, `root`/MSMT17_V2, by its list files; 15 cameras, view 0.

    The training split is list_train.txt with list_val.txt. Without list files the images are those of
    bounding_box_train, query and bounding_box_test, by their names. Raises FileNotFoundError for a missing
    folder or list, ValueError (file and line) for a bad line or file name.
    """
    folder = first_folder(
        [root / FOLDER, root / _OTHER_FOLDER],
        f"test or mask_test_v2, list_query.txt, list_gallery.txt; or {_QUERY}, {_GALLERY}",
    )
    images = folder / (_GALLERY if options.need_test else _TRAIN)
    if images.is_dir() and not any(folder.glob("list_*.txt")):
        train, query, gallery = read_named(folder, SPLIT_FOLDERS, _RULE, options)
        return _dataset(relabel(train), query, gallery, f"{_V2}, folders of Market-1501")
    release, train_images, test_images = _release(folder, options)
    train = []
    if options.need_train:
        lists = (folder / "list_train.txt", folder / "list_val.txt")
        train = relabel([record for file in lists for record in _read(file, train_images, "train")])
    query, gallery = [], []
    if options.need_test:
        query = _read(folder / "list_query.txt", test_images, "query")
        gallery = _read(folder / "list_gallery.txt", test_images, "gallery")
    return _dataset(train, query, gallery, release)


def _dataset(
    train: list[ImageRecord], query: list[ImageRecord], gallery: list[ImageRecord], release: str
) -> ReIDDataset:
    _logger.info("MSMT17, release %s", release)
    return ReIDDataset("msmt17", train, [Trial(query, gallery)], "person", release=release)


def _release(folder: Path, options: ReadOptions) -> tuple[str, Path, Path]:
    """The release that is there, and the folders of its training and test images."""
    for release, train, test in _RELEASES:
        if (folder / (test if options.need_test else train)).is_dir():
            if options.need_train:
                require_folder(folder / train, f"the train images of the release that has {test}")
            return release, folder / train, folder / test
    split, other = ("test", _GALLERY) if options.need_test else ("train", _TRAIN)
    folders = " or ".join(test if options.need_test else train for _, train, test in _RELEASES)
    raise FileNotFoundError(
        f"{folder}: no folder with {split} images, expected there: {folders}; or {other} and no list files"
    )


def _read(file: Path, images: Path, split: str) -> list[ImageRecord]:
    """One record a line, whose camera is the third field of the file name."""
    records = []
    for name, pid, where in read_list(file, "`relative/path.jpg pid`"):
        parts = name.rpartition("/")[2].split("_")
        camera = parts[2] if len(parts) > 2 else ""
        if not (is_number(camera) and int(camera) in _CAMERAS):
            raise ValueError(
                f"{where}: camera {quoted(camera)} in {quoted(name)}, allowed as third field of the file name"
                f" are {_CAMERAS.start} to {_CAMERAS.stop - 1}"
            )
        camid, texts = int(camera) - _CAMERAS.start, label_texts(str(pid), camera)
        records.append(ImageRecord(str(images / name), pid, camid, 0, texts=texts))
    return require_records(records, split, file)
