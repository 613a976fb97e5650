"""Drawn people in the form of Market-1501 (Zheng et al., ICCV 2015): pictures and files.

Raw colours and backgrounds mislead from camera to camera, but every person can be recognised. The looks of
people are in people.py, cameras and streets in scenes.py.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.drawn.folders import PICTURE_LIMITS, check_numbers, new_folder
from datasets.drawn.people import Person, draw_people
from datasets.drawn.pictures import camera_posts
from datasets.drawn.scenes import MOST_CAMERAS, named_domain
from datasets.drawn.sentences import write_sentences
from utils.package import require_extra

FOLDER = "Market-1501-v15.09.15"
CAPTIONS = "captions.json"
STRANGERS = 5  # people on distractors only
_LIMITS = {
    "train_ids": (1, 1500),
    "test_ids": (1, 1500),
    "images_per_camera": (2, 99),
    "cameras": (2, MOST_CAMERAS),
    "distractors": (0, 999),
    "captions": (0, 99),
    **PICTURE_LIMITS,
}
_MOST_IDS = 1501  # the highest pid of Market-1501


class _Shot(NamedTuple):
    """One picture to take: folder, pid in its name, its person (None: nobody), key of its random numbers."""

    folder: str
    pid: int
    person: Person | None
    key: tuple[int, ...]
    missed: bool  # by a bad detector: the person is half out of the picture


def draw_market1501(
    root: str | Path,
    *,
    train_ids: int = 80,
    test_ids: int = 40,
    images_per_camera: int = 4,
    cameras: int = 4,
    distractors: int = 8,
    captions: int = 0,
    size: tuple[int, int] = (128, 64),
    seed: int = 0,
    domain: str = "street",
    overwrite: bool = False,
) -> Path:
    """Draw `root`/Market-1501-v15.09.15 and return that folder; equal arguments give equal pictures.

    Identities 1..train_ids are for training, the following `test_ids` for testing; each is seen
    `images_per_camera` times by every camera. The first picture of a test identity in each camera is a query,
    the others are gallery, with `distractors` pictures of pid 0 and as many of pid -1 (junk) per camera.
    Each training picture has `captions` sentences in captions.json, a map of file names, which is not written
    for 0. `size` is (height, width) in pixels; `domain` is 'street' or 'station', where cameras, places and
    clothes are others. Raises ValueError for a number out of range or another domain, FileExistsError if the
    folder exists and either `overwrite` is not set or it holds anything but a drawn data set; MissingExtra
    without scikit-image.
    """
    require_extra("draw")
    arguments = {
        "train_ids": train_ids,
        "test_ids": test_ids,
        "images_per_camera": images_per_camera,
        "cameras": cameras,
        "distractors": distractors,
        "captions": captions,
        "height": size[0],
        "width": size[1],
        "seed": seed,
    }
    check_numbers(arguments, _LIMITS)
    place = named_domain(domain)
    if train_ids + test_ids > _MOST_IDS:
        raise ValueError(
            f"train_ids {train_ids} and test_ids {test_ids} make more than the {_MOST_IDS} identities that "
            "file names of Market-1501 have"
        )
    people = draw_people(train_ids + test_ids + STRANGERS, np.random.default_rng(seed), place.wardrobe)
    folder = new_folder(Path(root) / FOLDER, arguments | {"domain": domain}, overwrite=overwrite)
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / name).mkdir()
    texts: dict[str, list[str]] = {}
    for post in camera_posts(place, cameras, size, seed):
        shots = itertools.chain(
            _identity_shots(people[: train_ids + test_ids], train_ids, images_per_camera),
            _bad_shots(people[train_ids:], test_ids, distractors),
        )
        for frame, shot in enumerate(shots, start=1):
            name = f"{shot.pid:04d}" if shot.pid >= 0 else str(shot.pid)
            file = folder / shot.folder / f"{name}_c{post.number}s1_{frame:06d}_00.jpg"
            post.save(file, shot.person, shot.key, missed=shot.missed)
            if captions and shot.person is not None and shot.folder == "bounding_box_train":
                key = (seed, post.number, *shot.key)
                texts[file.name] = write_sentences(shot.person, captions, key)["captions"]
    if texts:
        (folder / CAPTIONS).write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")
    return folder


def _identity_shots(people: Sequence[Person], train_ids: int, images: int) -> Iterator[_Shot]:
    for pid, person in enumerate(people, start=1):
        for index in range(images):
            test_folder = "query" if index == 0 else "bounding_box_test"
            folder = "bounding_box_train" if pid <= train_ids else test_folder
            yield _Shot(folder, pid, person, (pid, index), missed=False)


def _bad_shots(people: Sequence[Person], test_ids: int, count: int) -> Iterator[_Shot]:
    """Mistakes of a detector: places and parts of strangers (pid 0), parts of test identities (-1).

    `people` are the test identities, then the strangers.
    """
    strangers = people[test_ids:]
    for index in range(count):
        stranger = strangers[index % len(strangers)] if index % 2 else None
        yield _Shot("bounding_box_test", 0, stranger, (0, index), missed=True)
        yield _Shot("bounding_box_test", -1, people[index % test_ids], (0, index, 1), missed=True)
