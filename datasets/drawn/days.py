"""Drawn people over several days: who passes which camera when, as a gallery sees them, with a table."""

import csv
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.drawn.folders import PICTURE_LIMITS, check_numbers, new_folder
from datasets.drawn.people import Person, draw_people
from datasets.drawn.pictures import CameraPost, camera_posts
from datasets.drawn.scenes import DOMAINS
from datasets.drawn.sentences import write_sentences
from utils.package import require_extra

FOLDER = "drawn_days"
TABLE = "sightings.csv"
CAMERAS = ("entrance", "hall", "stairs", "courtyard")
NAMES = ("Anna", "Ben", "Carla", "Dora", "Emil", "Farah", "Goran", "Hana", "José", "小明")
FIRST = datetime(2026, 5, 4)  # a Monday
_HOURS = (8, 12, 17)  # at which people may come by
_COMES, _SEEN_TWICE = 0.35, 0.4  # how often, at each of the hours; and by a camera on the way
_LIMITS = {"people": (2, 500), "days": (1, 31), **PICTURE_LIMITS}


class DrawnDays(NamedTuple):
    """A drawn folder, and questions to its people.

    `table` lists its pictures with path, identity, camera and time. `known` is another picture of the person
    `name`, `stranger` one of somebody who never came by. `sentence` describes the person `described`.
    """

    folder: Path
    table: Path
    known: Path
    name: str
    stranger: Path
    sentence: str
    described: str


def draw_days(
    root: str | Path,
    *,
    people: int = 12,
    days: int = 5,
    size: tuple[int, int] = (128, 64),
    seed: int = 0,
    overwrite: bool = False,
) -> DrawnDays:
    """Draw `root`/drawn_days; equal arguments give equal pictures and times.

    The first people have names, the others none. Four cameras of the domain 'street' see them from the 4th
    of May 2026 on. Raises ValueError for a number out of range, FileExistsError as `draw_market1501` does;
    MissingExtra without scikit-image.
    """
    require_extra("draw")
    arguments = {"people": people, "days": days, "height": size[0], "width": size[1], "seed": seed}
    check_numbers(arguments, _LIMITS)
    domain = DOMAINS["street"]
    looks = draw_people(people + 1, np.random.default_rng(seed), domain.wardrobe)
    folder = new_folder(Path(root) / FOLDER, arguments, overwrite=overwrite)
    posts = list(camera_posts(domain, len(CAMERAS), size, seed))
    rows = []
    for person in range(people):
        name = NAMES[person] if person < len(NAMES) else ""
        for number, (post, time) in enumerate(_passes(posts, days, (seed, person))):
            file = f"pictures/{person:03d}_{number:03d}.jpg"
            _save(post, folder / file, looks[person], (person, number))
            rows.append((file, name, CAMERAS[post.number - 1], time.isoformat(" ")))
    rows.sort(key=lambda row: (row[3], row[0]))
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("path", "identity", "camera", "time"), *rows])
    known, stranger = folder / f"asked/{NAMES[0]}.jpg", folder / "asked/stranger.jpg"
    _save(posts[1], known, looks[0], (people, 0))
    _save(posts[1], stranger, looks[people], (people, 1))
    sentence = write_sentences(looks[2], 1, (seed, people))["captions"][0]
    return DrawnDays(folder, folder / TABLE, known, NAMES[0], stranger, sentence, NAMES[2])


def _passes(
    posts: list[CameraPost], days: int, key: tuple[int, ...]
) -> Iterator[tuple[CameraPost, datetime]]:
    """Which camera takes a picture of a person when; the first walk passes all cameras."""
    rng = np.random.default_rng(key)
    for day in range(days):
        for hour in _HOURS:
            is_first = day == 0 and hour == _HOURS[0]
            if rng.random() > _COMES and not is_first:
                continue
            time = FIRST + timedelta(days=day, hours=hour, seconds=int(rng.integers(0, 5400)))
            way = posts if rng.random() < 0.5 else posts[::-1]
            for post in way[: len(way) if is_first else rng.integers(2, len(way) + 1)]:
                for _ in range(2 if rng.random() < _SEEN_TWICE else 1):
                    yield post, time
                    time += timedelta(seconds=int(rng.integers(2, 20)))
                time += timedelta(seconds=int(rng.integers(60, 1500)))


def _save(post: CameraPost, file: Path, person: Person, key: tuple[int, ...]) -> None:
    file.parent.mkdir(exist_ok=True)
    post.save(file, person, key)
