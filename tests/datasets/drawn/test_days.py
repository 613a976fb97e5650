import csv
from datetime import datetime, timedelta
from itertools import groupby, pairwise

import pytest
from PIL import Image

from datasets.drawn import draw_days
from datasets.drawn.days import CAMERAS, FIRST, NAMES, TABLE
from tests.datasets.drawn.test_captions import digests

SMALL = {"people": 3, "days": 2, "size": (64, 32)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_days(tmp_path_factory.mktemp("drawn"), **SMALL)


def sightings(drawn):
    with drawn.table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_picture_is_listed_once_with_name_camera_and_time(drawn):
    rows = sightings(drawn)
    assert drawn.table == drawn.folder / TABLE
    assert sorted(drawn.folder / row["path"] for row in rows) == sorted(drawn.folder.glob("pictures/*.jpg"))
    assert {row["identity"] for row in rows} == set(NAMES[:3])
    assert {row["camera"] for row in rows} == set(CAMERAS)
    for row in rows:
        with Image.open(drawn.folder / row["path"]) as picture:
            assert picture.size == (32, 64)
    assert len(set(digests(drawn.folder / "pictures").values())) == len(rows)


def test_nobody_is_at_two_cameras_at_once(drawn):
    for _, rows in groupby(
        sorted(sightings(drawn), key=lambda row: row["path"]), lambda row: row["identity"]
    ):
        seen = [(datetime.fromisoformat(row["time"]), row["camera"]) for row in rows]
        assert all(FIRST <= time < FIRST + timedelta(days=3) for time, _ in seen)
        for (before, here), (after, there) in pairwise(sorted(seen)):
            assert after - before >= timedelta(seconds=2 if here == there else 60)


def test_those_who_are_asked_for_are_not_among_the_pictures(drawn):
    pictures = digests(drawn.folder / "pictures").values()
    assert (drawn.name, drawn.described) == (NAMES[0], NAMES[2]) and drawn.sentence.endswith(".")
    assert not set(digests(drawn.folder / "asked").values()).intersection(pictures)
    assert drawn.known.is_file() and drawn.stranger.is_file()


def test_people_beyond_the_names_have_none(tmp_path):
    drawn = draw_days(tmp_path, people=len(NAMES) + 1, days=1, size=(32, 16))
    assert {row["identity"] for row in sightings(drawn)} == {"", *NAMES}


def test_equal_seeds_give_equal_bytes_and_others_do_not(drawn, tmp_path):
    assert digests(draw_days(tmp_path, **SMALL).folder) == digests(drawn.folder)
    other = draw_days(tmp_path, **SMALL, seed=1, overwrite=True)
    assert digests(other.folder)[TABLE] != digests(drawn.folder)[TABLE]


@pytest.mark.parametrize(("wrong", "words"), [({"people": 1}, "people is 1"), ({"days": 32}, "days is 32")])
def test_numbers_have_limits(tmp_path, wrong, words):
    with pytest.raises(ValueError, match=f"{words}; allowed: "):
        draw_days(tmp_path, **wrong)
