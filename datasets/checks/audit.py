"""Faults in the files and labels of a data set: each image is decoded in full, and bytes are compared."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from tqdm import tqdm

from datasets.pixels.images import decode_image
from datasets.records import CaptionDataset, CaptionRecord, ImageRecord, ReIDDataset, count_pids
from utils.labels import NO_CAMERA, NO_PID
from utils.modes import conversions
from utils.text import printable
from utils.untrusted.pictures import open_picture, orientation, read_picture

_CHUNK = 16  # files that a process takes at a time
_Record = ImageRecord | CaptionRecord


class FileFacts(NamedTuple):
    """One file: `digest` is the SHA-256 of its bytes in hex, '' if there is a `problem`.

    `problem` is '', 'absent' (or no file), 'empty' or 'unreadable'; `reason` is one line that names an
    unreadable file. `conversions` are those of reading, in words; `orientation` is EXIF's, 1 to 8.
    """

    digest: str
    problem: str = ""
    reason: str = ""
    conversions: tuple[str, ...] = ()
    orientation: int = 1


@dataclass(frozen=True)
class Findings:
    """One line of text for each occurrence of a fault; `ERRORS` and `NOTES` have the titles of the faults.

    Notes do not prevent a run.
    """

    ERRORS: ClassVar[dict[str, str]] = {
        "unreadable": "files that cannot be read as images",
        "empty": "files of zero bytes",
        "absent": "listed files that are absent",
        "duplicates": "images under several identities",
        "train_in_test": "training images in the test splits",
    }
    NOTES: ClassVar[dict[str, str]] = {
        "repeated": "images of one identity in several files",
        "converted": "images that reading as RGB of 8 bits changes",
        "turned": "images with an EXIF orientation",
        "single_image": "training identities of one image",
        "single_camera": "training identities of one camera",
    }
    unreadable: list[str]
    empty: list[str]
    absent: list[str]
    duplicates: list[str]
    train_in_test: list[str]
    repeated: list[str]
    converted: list[str]
    turned: list[str]
    single_image: list[str]
    single_camera: list[str]


def audit(dataset: ReIDDataset | CaptionDataset, files: Mapping[str, FileFacts]) -> Findings:
    """Compare the records of a data set with each other, given the result of `inspect_files` for all paths.

    Identities of the training split and of the tests have numbers of their own and are not compared. Of
    captions the images are compared. Raises KeyError for a path that `files` lacks.
    """
    train = list(dict.fromkeys(dataset.train))
    test = list(
        dict.fromkeys(record for trial in dataset.trials for record in (*trial.query, *trial.gallery))
    )
    by_bytes = [_by_bytes(records, files) for records in (train, test)]
    same_bytes = [same for split in by_bytes for same in split.values()]

    def problems(name: str) -> list[str]:
        return [facts.reason or path for path, facts in files.items() if facts.problem == name]

    return Findings(
        unreadable=problems("unreadable"),
        empty=problems("empty"),
        absent=problems("absent"),
        duplicates=[_identities(same) for same in same_bytes if count_pids(same) > 1],
        train_in_test=[
            f"{same[0].path} = {by_bytes[1][key][0].path}"
            for key, same in by_bytes[0].items()
            if key in by_bytes[1]
        ],
        repeated=[
            " = ".join(_paths(same)) for same in same_bytes if count_pids(same) <= 1 and len(_paths(same)) > 1
        ],
        converted=[f"{path}: {what}" for path, facts in files.items() for what in facts.conversions],
        turned=[f"{path}: {facts.orientation}" for path, facts in files.items() if facts.orientation > 1],
        single_image=_with_image(own for own in _by_pid(train).values() if len(_paths(own)) == 1),
        single_camera=_single_camera(train),
    )


def inspect_files(paths: Sequence[str], workers: int) -> dict[str, FileFacts]:
    """Decode every file in full, in `workers` processes (0: in this one).

    Raises OSError if a process ended before its files were decoded.
    """
    if workers < 1:
        return dict(zip(paths, _with_bar(map(inspect_file, paths), len(paths)), strict=True))
    # One thread each: after a fork the parent's threads are gone, and a child that waits for them hangs.
    pool = ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        results = pool.map(inspect_file, paths, chunksize=_CHUNK)
        return dict(zip(paths, _with_bar(results, len(paths)), strict=True))
    except BrokenProcessPool as error:
        raise OSError(
            f"workers is {workers}: one of these processes was ended, for lack of memory or by a file that "
            "crashes its decoder; allowed: 0, which shows the file"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted check does not decode the rest first


def inspect_file(path: str) -> FileFacts:
    """Decode one file in full and take the digest of its bytes."""
    if not os.path.exists(path) or os.path.isdir(path):
        return FileFacts("", "absent")
    try:
        data = read_picture(path)
        if not data:
            return FileFacts("", "empty")
        decode_image(path, data=data)
        with open_picture(path, data) as image:
            facts = conversions(image), orientation(image)
        return FileFacts(hashlib.sha256(data).hexdigest(), "", "", *facts)
    except (OSError, ValueError, MemoryError) as error:
        return FileFacts("", "unreadable", printable(error) or f"{path}: {type(error).__name__}")


def _with_bar(facts: Iterable[FileFacts], count: int) -> Iterable[FileFacts]:
    return tqdm(facts, "decode images", count, leave=False, disable=None)


def _by_bytes(records: Iterable[_Record], files: Mapping[str, FileFacts]) -> dict[str, list[_Record]]:
    """Records by the bytes of their files; by path if these are not known."""
    groups: dict[str, list[_Record]] = {}
    for record in records:
        groups.setdefault(files[record.path].digest or record.path, []).append(record)
    return groups


def _paths(records: Iterable[_Record]) -> list[str]:
    return list(dict.fromkeys(record.path for record in records))


def _identities(records: Iterable[_Record]) -> str:
    first = {(record.path, record.pid): record for record in records}
    names = [record.texts.identity or record.pid for record in first.values()]
    return " = ".join(f"{path} (identity {name})" for (path, _), name in zip(first, names, strict=True))


def _by_pid(records: Iterable[_Record]) -> dict[int, list[_Record]]:
    """Records by known identity."""
    groups: dict[int, list[_Record]] = {}
    for record in records:
        if record.pid != NO_PID:
            groups.setdefault(record.pid, []).append(record)
    return groups


def _with_image(identities: Iterable[list[_Record]]) -> list[str]:
    """Identities as written, each with its first image; the pid is only a rank."""
    texts = [(own[0].texts.identity, own[0].path) for own in identities]
    return [f"identity {name}, {path}" if name else f"the identity of {path}" for name, path in texts]


def _single_camera(records: Sequence[_Record]) -> list[str]:
    """Identities of two images or more, all from one known camera; empty if the split has one camera."""
    if len({record.camid for record in records}) < 2:
        return []
    found = []
    for own in _by_pid(records).values():
        cameras = {record.camid for record in own}
        if len(_paths(own)) > 1 and len(cameras) == 1 and NO_CAMERA not in cameras:
            found.append(own)
    return _with_image(found)
