import dataclasses
import hashlib
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.drawn.folders import RECORD
from datasets.drawn.market import FOLDER, draw_market1501
from datasets.drawn.people import APART, Canvas, Person, Pose, draw_people, draw_person
from datasets.drawn.scenes import DOMAINS, expose
from datasets.readers.market1501 import market1501

SMALL = {
    "train_ids": 3,
    "test_ids": 2,
    "images_per_camera": 3,
    "cameras": 2,
    "distractors": 4,
    "size": (64, 32),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_market1501(tmp_path_factory.mktemp("drawn"), **SMALL)


def digests(folder: Path):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.jpg")}


def names(folder: Path, part: str):
    rule = re.compile(r"(-1|\d{4})_c([1-6])s(\d)_\d{6}_\d{2}\.jpg")
    matches = [rule.fullmatch(path.name) for path in (folder / part).iterdir()]
    assert all(matches)
    return [(int(match[1]), int(match[2])) for match in matches]


def test_the_tree_has_the_names_and_counts_of_market1501(drawn):
    assert drawn.name == FOLDER
    train, query, gallery = (
        names(drawn, part) for part in ("bounding_box_train", "query", "bounding_box_test")
    )
    assert sorted(train) == sorted((pid, cam) for pid in (1, 2, 3) for cam in (1, 2) for _ in range(3))
    assert sorted(query) == [(4, 1), (4, 2), (5, 1), (5, 2)]
    expected = [(pid, cam) for pid in (4, 5) for cam in (1, 2) for _ in range(2)]
    expected += [(pid, cam) for pid in (0, -1) for cam in (1, 2) for _ in range(4)]
    assert sorted(gallery) == sorted(expected)


def test_the_market1501_reader_takes_it(drawn):
    dataset = market1501(drawn.parent)
    assert (len(dataset.train), dataset.num_train_pids, dataset.num_train_cams) == (18, 3, 2)
    assert len(dataset.query) == 4
    assert len(dataset.gallery) == 16  # junk is dropped, distractors are not
    for query in dataset.query:
        assert any(r.pid == query.pid and r.camid != query.camid for r in dataset.gallery)


def test_splits_are_disjoint(drawn):
    train = {pid for pid, _ in names(drawn, "bounding_box_train")}
    test = {pid for part in ("query", "bounding_box_test") for pid, _ in names(drawn, part)}
    assert not train & test
    assert test == {-1, 0, 4, 5}


def test_pictures_have_the_size_and_differ(drawn):
    for path in drawn.rglob("*.jpg"):
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("RGB", (32, 64))
    assert len(set(digests(drawn).values())) == 18 + 4 + 24


def test_equal_seeds_give_equal_bytes_and_others_do_not(drawn, tmp_path):
    again = draw_market1501(tmp_path / "again", **SMALL)
    other = draw_market1501(tmp_path / "other", **SMALL, seed=1)
    assert digests(again) == digests(drawn)
    assert digests(other).keys() == digests(drawn).keys()
    assert not set(digests(other).values()) & set(digests(drawn).values())


def test_another_domain_has_other_clothes_and_darker_pictures(drawn, tmp_path):
    station = draw_market1501(tmp_path, **SMALL, domain="station")
    assert {path.name for path in station.rglob("*.jpg")} == {path.name for path in drawn.rglob("*.jpg")}
    bright = [
        np.mean([np.asarray(Image.open(file)) for file in folder.rglob("*.jpg")])
        for folder in (drawn, station)
    ]
    assert bright[1] < bright[0] - 10
    worn = [
        {person.top for person in draw_people(150, np.random.default_rng(0), domain.wardrobe)}
        for domain in DOMAINS.values()
    ]
    assert len(worn[0] & worn[1]) == 4 and len(worn[0] | worn[1]) == 20


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)
def test_people_differ_in_several_attributes(domain):
    rng = np.random.default_rng(0)
    people = [dataclasses.astuple(person) for person in draw_people(150, rng, domain.wardrobe)]
    for one, other in itertools.combinations(people, 2):
        assert sum(a != b for a, b in zip(one, other, strict=True)) >= APART


def test_the_first_people_do_not_depend_on_how_many_follow():
    assert draw_people(5, np.random.default_rng(3)) == draw_people(20, np.random.default_rng(3))[:5]


PERSON = Person(
    top="red",
    pattern="plain",
    second="none",
    sleeve="long",
    legwear="trousers",
    bottom="blue",
    shoes="black",
    hair="black",
    cut="short",
    hat="none",
    bag="none",
    bag_colour="none",
    skin="light",
    build="medium",
)
OTHER_VALUES = {
    "top": "green",
    "sleeve": "bare",
    "legwear": "skirt",
    "bottom": "white",
    "shoes": "red",
    "hair": "blond",
    "cut": "long",
    "hat": "yellow",
    "skin": "dark",
    "build": "broad",
}
POSE = Pose(turn="front", ahead=1, stride=0.1, arms=(0.1, 0.2), elbows=(0.2, 0.3))


def figure(person: Person, pose: Pose):
    image = np.full((128, 64, 3), 0.5, np.float32)
    shade = np.ones((128, 64), np.float32)
    draw_person(Canvas(image, shade, middle=32, crown=6, height=116, tilt=0.0), person, pose)
    return image


@pytest.mark.parametrize("turn", ["front", "back", "side"])
@pytest.mark.parametrize(("field", "value"), OTHER_VALUES.items())
def test_every_attribute_shows(field, value, turn):
    pose = POSE._replace(turn=turn)
    changed = figure(dataclasses.replace(PERSON, **{field: value}), pose) != figure(PERSON, pose)
    assert changed.any(axis=2).sum() > 10


@pytest.mark.parametrize("pattern", ["hoops", "stripes", "halves", "band", "checks"])
def test_patterns_show_both_colours(pattern):
    image = figure(dataclasses.replace(PERSON, pattern=pattern, second="yellow"), POSE)
    trunk = image[30:66, 24:40].reshape(-1, 3)
    red, yellow = (
        (np.abs(trunk - colour).max(axis=1) < 1e-6).mean()
        for colour in np.float32([(0.78, 0.12, 0.12), (0.92, 0.84, 0.20)])
    )
    assert red > 0.2
    assert yellow > 0.2


@pytest.mark.parametrize(("turn", "fewest"), [("front", 60), ("back", 400), ("side", 100)])
def test_a_backpack_is_seen_best_from_behind(turn, fewest):
    pose = POSE._replace(turn=turn)
    person = dataclasses.replace(PERSON, bag="backpack", bag_colour="yellow")
    yellow = np.abs(figure(person, pose) - np.float32((0.92, 0.84, 0.20))).max(axis=2) < 1e-6
    assert yellow.sum() > fewest


def test_cameras_render_one_scene_differently():
    scene = np.full((32, 16, 3), (0.6, 0.5, 0.4), np.float32)
    cameras = [camera for domain in DOMAINS.values() for camera in domain.cameras]
    means = [expose(scene, camera, np.random.default_rng(0)).mean(axis=(0, 1)) for camera in cameras]
    for one, other in itertools.combinations(means, 2):
        assert np.abs(one - other).max() > 2  # of 255


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_ids": 0}, "train_ids is 0; allowed: 1 to 1500"),
        ({"test_ids": 0}, "test_ids is 0; allowed: 1 to 1500"),
        (
            {"train_ids": 1500, "test_ids": 2},
            "train_ids 1500 and test_ids 2 make more than the 1501 identities",
        ),
        ({"images_per_camera": 1}, "images_per_camera is 1; allowed: 2 to 99"),
        ({"cameras": 7}, "cameras is 7; allowed: 2 to 6"),
        ({"cameras": 1}, "cameras is 1; allowed: 2 to 6"),
        ({"distractors": -1}, "distractors is -1; allowed: 0 to 999"),
        ({"size": (16, 64)}, "height is 16; allowed: 32 to 1024"),
        ({"size": (64, 8)}, "width is 8; allowed: 16 to 1024"),
        ({"seed": -1}, "seed is -1; allowed: 0 to 4294967295"),
        ({"domain": "moon"}, "domain is 'moon'; allowed: street, station"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, changed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw_market1501(tmp_path, **SMALL | changed)
    assert not list(tmp_path.iterdir())


def test_training_pictures_have_sentences_where_asked(tmp_path, drawn):
    assert not (drawn / "captions.json").exists()
    folder = draw_market1501(tmp_path, **SMALL, captions=2)
    texts = json.loads((folder / "captions.json").read_text())
    assert sorted(texts) == sorted(path.name for path in (folder / "bounding_box_train").iterdir())
    assert all(len(each) == 2 and all(text.endswith(".") for text in each) for each in texts.values())
    assert len({text for each in texts.values() for text in each}) > len(texts)


def test_an_existing_folder_is_kept_unless_it_was_drawn_and_may_go(tmp_path):
    tiny = SMALL | {"train_ids": 1, "test_ids": 1, "images_per_camera": 2, "distractors": 0}
    folder = draw_market1501(tmp_path, **tiny)
    left_over = folder / "query" / "0099_c1s1_000001_00.jpg"
    left_over.touch()
    with pytest.raises(FileExistsError, match=f"{FOLDER} exists already"):
        draw_market1501(tmp_path, **tiny)
    assert left_over.exists()
    assert draw_market1501(tmp_path, **tiny, overwrite=True) == folder
    assert not left_over.exists()
    (folder / RECORD).unlink()
    with pytest.raises(FileExistsError, match=f"has no file {RECORD}"):
        draw_market1501(tmp_path, **tiny, overwrite=True)
    assert len(list(folder.rglob("*.jpg"))) == 8


def test_too_many_people_are_refused(monkeypatch):
    monkeypatch.setattr("datasets.drawn.people.APART", 99)
    with pytest.raises(ValueError, match="3 identities asked for, only 1"):
        draw_people(3, np.random.default_rng(0))
