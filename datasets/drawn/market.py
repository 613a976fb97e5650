"""Drawn people in the form of Market-1501 (Zheng et al., ICCV 2015): pictures and files.

Raw colours and backgrounds mislead from camera to camera, but every person can be recognised. The looks of
people are in people.py, cameras and streets in scenes.py.
"""

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from datasets.drawn.people import Canvas, Image, Person, Pose, draw_people, draw_person
from datasets.drawn.scenes import CAMERAS, Camera, cut_scene, draw_street, expose, hide
from utils.package import require_extra

FOLDER = "Market-1501-v15.09.15"
RECORD = "drawn.json"  # a file in FOLDER with the arguments, which marks a folder as drawn
OVERSAMPLE = 2  # scenes are drawn larger than pictures by this factor and averaged down, for smooth edges
OCCLUDED = 0.08  # share of pictures with something in front of the person
STRANGERS = 5  # people on distractors only
_LIMITS = {
    "train_ids": (1, 1500),
    "test_ids": (1, 1500),
    "images_per_camera": (2, 99),
    "cameras": (2, len(CAMERAS)),
    "distractors": (0, 999),
    "height": (32, 1024),
    "width": (16, 1024),
    "seed": (0, 2**32 - 1),
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
    size: tuple[int, int] = (128, 64),
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Draw `root`/Market-1501-v15.09.15 and return that folder; equal arguments give equal pictures.

    Identities 1..train_ids are for training, the following `test_ids` for testing; each is seen
    `images_per_camera` times by every camera. The first picture of a test identity in each camera is a query,
    the others are gallery, with `distractors` pictures of pid 0 and as many of pid -1 (junk) per camera.
    `size` is (height, width) in pixels. Raises ValueError for a number out of range, FileExistsError if the
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
        "height": size[0],
        "width": size[1],
        "seed": seed,
    }
    _check(arguments)
    folder = Path(root) / FOLDER
    people = draw_people(train_ids + test_ids + STRANGERS, np.random.default_rng(seed))
    if folder.exists():
        _remove_drawn(folder, overwrite)
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / name).mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(arguments, indent=1) + "\n", encoding="utf-8")
    for number, camera in enumerate(CAMERAS[:cameras], start=1):
        street = draw_street(
            camera.horizon,
            (size[0] * OVERSAMPLE, size[1] * OVERSAMPLE),
            np.random.default_rng((seed, number)),
        )
        shots = itertools.chain(
            _identity_shots(people[: train_ids + test_ids], train_ids, images_per_camera),
            _bad_shots(people[train_ids:], test_ids, distractors),
        )
        for frame, shot in enumerate(shots, start=1):
            picture = _take(shot, camera, street, size, np.random.default_rng((seed, number, *shot.key)))
            name = f"{shot.pid:04d}" if shot.pid >= 0 else str(shot.pid)
            file = folder / shot.folder / f"{name}_c{number}s1_{frame:06d}_00.jpg"
            PILImage.fromarray(picture).save(file, quality=camera.quality)
    return folder


def _check(arguments: dict[str, int]) -> None:
    for name, (low, high) in _LIMITS.items():
        if not low <= arguments[name] <= high:
            raise ValueError(f"{name} is {arguments[name]}; allowed: {low} to {high}")
    if arguments["train_ids"] + arguments["test_ids"] > _MOST_IDS:
        raise ValueError(
            f"train_ids {arguments['train_ids']} and test_ids {arguments['test_ids']} make more than "
            f"the {_MOST_IDS} identities that file names of Market-1501 have"
        )


def _remove_drawn(folder: Path, allowed: bool) -> None:
    if not allowed:
        raise FileExistsError(f"{folder} exists already and is not overwritten unless asked to")
    if not (folder / RECORD).is_file():
        raise FileExistsError(
            f"{folder} has no file {RECORD}: it was not drawn here and is never overwritten"
        )
    shutil.rmtree(folder)


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


def _take(
    shot: _Shot, camera: Camera, street: Image, size: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture (H, W, 3), H and W from `size`."""
    height, width = size
    scene = cut_scene(street, (height * OVERSAMPLE, width * OVERSAMPLE), rng)
    if shot.person is not None:
        _place_person(scene, shot.person, camera, shot.missed, rng)
    if rng.random() < OCCLUDED:
        hide(scene, rng)
    scene = scene.reshape(height, OVERSAMPLE, width, OVERSAMPLE, 3).mean(axis=(1, 3))
    return expose(scene, camera, rng)


def _place_person(
    scene: Image, person: Person, camera: Camera, missed: bool, rng: np.random.Generator
) -> None:
    """Draw the person into the scene (H, W, 3), in some pose, with folded cloth and light from a side."""
    from skimage import transform

    height, width = scene.shape[:2]
    folds = transform.resize(rng.normal(1, 0.08, (16, 8)), (height, width), order=1)
    slope = np.linspace(-1, 1, width) * camera.side_light * rng.uniform(0.5, 1.2)
    tall = camera.scale * rng.uniform(0.95, 1.06) * height
    right, down = rng.choice((-1, 1), 2) * rng.uniform(0.3, 0.5, 2) if missed else (0.0, 0.0)
    canvas = Canvas(
        scene,
        (folds * (1 + slope)).astype(np.float32),
        middle=width * (0.5 + rng.uniform(-0.07, 0.07) + right),
        crown=(height - tall) * rng.uniform(0.25, 0.75) + height * down,
        height=tall,
        tilt=camera.tilt,
    )
    pose = Pose(
        turn=str(rng.choice(("front", "back", "side"), p=camera.facing)),
        ahead=int(rng.choice((-1, 1))),
        stride=rng.uniform(-0.13, 0.13),
        arms=(rng.uniform(-0.35, 0.35), rng.uniform(-0.35, 0.35)),
        elbows=(rng.uniform(0, 0.7), rng.uniform(0, 0.7)),
    )
    draw_person(canvas, person, pose)
