"""Splits by identity: who is tested, which images are queries, and what the draws depend on."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets import LabelledImage, split_by_identity


def people(count, cameras=("1", "2"), images=3):
    return [
        LabelledImage(f"{pid}/{camera}_{n}.jpg", f"p{pid}", camera)
        for pid in range(count)
        for camera in cameras
        for n in range(images)
    ]


def by_split(images, division):
    found = {"train": [], "query": [], "gallery": []}
    for image in images:
        found[division.splits[image.path]].append(image)
    return found


def test_identities_are_in_training_or_tested_and_images_in_one_split():
    images = people(20)
    division = split_by_identity(images, test_share=0.3, seed=0)
    splits = by_split(images, division)
    pids = {split: {image.pid for image in own} for split, own in splits.items()}
    assert len(pids["train"]) == 14 and pids["query"] == pids["gallery"] and len(pids["query"]) == 6
    assert not pids["train"] & pids["query"] and not division.without_match
    assert {split: len(own) for split, own in splits.items()} == {"train": 84, "query": 12, "gallery": 24}
    assert set(Counter((image.pid, image.camid) for image in splits["query"]).values()) == {1}


def test_draws_follow_from_seed_and_names():
    images = people(20)
    splits = [split_by_identity(images, test_share=0.3, seed=seed).splits for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]
    assert split_by_identity(images[::-1], test_share=0.3, seed=0).splits == splits[0]
    # The same on every machine and in every version.
    tested = {path.split("/")[0] for path, split in splits[0].items() if split == "query"}
    assert tested == {"2", "5", "7", "8", "18", "19"}


def test_another_identity_moves_one_at_most():
    images = people(21)
    before = split_by_identity(images[:-6], test_share=0.3, seed=0).splits
    after = split_by_identity(images, test_share=0.3, seed=0).splits
    moved = {
        path.split("/")[0] for path, split in before.items() if (split == "train") != (after[path] == "train")
    }
    assert len(moved) <= 1


@st.composite
def any_images(draw):
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "7", "007", "-1", "c"]), st.sampled_from(["-1", "1", "01", "2"])
            ),
            min_size=1,
            max_size=24,
        )
    )
    return [LabelledImage(f"{n}.jpg", pid, camera) for n, (pid, camera) in enumerate(rows)]


@given(any_images(), st.sampled_from([0.2, 0.5, 1.0]), st.integers(1, 3), st.integers(0, 3))
def test_every_query_has_a_match(images, share, queries, seed):
    try:
        division = split_by_identity(images, test_share=share, seed=seed, queries=queries)
    except ValueError as error:
        assert "identities" in str(error)
        return
    splits = by_split(images, division)
    number = {"007": "7", "01": "1"}

    def label(text):
        return number.get(text, text)

    for query in splits["query"]:
        assert query.pid != "-1"
        own = [other for other in splits["gallery"] if label(other.pid) == label(query.pid)]
        assert any(label(other.camid) != label(query.camid) or query.camid == "-1" for other in own)
    taken = Counter((label(image.pid), label(image.camid)) for image in splits["query"])
    assert splits["query"] and max(taken.values()) <= queries
    trained = {label(image.pid) for image in splits["train"]}
    assert not trained & {label(image.pid) for image in splits["query"] + splits["gallery"]}
    assert bool(trained) == (share < 1) and "-1" not in trained


def test_who_cannot_be_tested_is_in_training():
    images = [*people(4), *people(9, cameras=("1",))[12:], LabelledImage("x.jpg", "only")]
    division = split_by_identity(images, test_share=0.9, seed=0)
    pids = {image.pid for image in by_split(images, division)["query"]}
    assert len(pids) == 4 and set(division.without_match) == {"p4", "p5", "p6", "p7", "p8", "only"}
    all_tested = by_split(images, split_by_identity(images, test_share=1, seed=0))
    assert not all_tested["train"] and "only" in {image.pid for image in all_tested["gallery"]}


def test_without_cameras_any_other_image_is_a_match():
    images = people(4, cameras=("-1",), images=2)
    splits = by_split(images, split_by_identity(images, test_share=0.5, seed=0))
    assert {name: len(own) for name, own in splits.items()} == {"train": 4, "query": 2, "gallery": 2}


def test_more_queries_of_a_camera():
    images = people(4, images=5)
    counts = [
        len(by_split(images, split_by_identity(images, test_share=0.5, seed=0, queries=n))["query"])
        for n in (1, 2, 9)
    ]
    assert counts[:2] == [4, 8] and 8 < counts[2] < 20


@pytest.mark.parametrize("camera", ["1", "01"])
@pytest.mark.parametrize(("queries", "count"), [(None, 6), (1, 2), (2, 4)])
def test_queries_of_one_camera_and_a_gallery_of_the_others(camera, queries, count):
    images = [*people(4, cameras=("1", "2", "-1")), LabelledImage("x.jpg", "-1", "1")]
    division = split_by_identity(images, test_share=0.5, seed=0, queries=queries, query_camera=camera)
    found = {"train": [], "query": [], "gallery": []}
    for image in images:
        if image.path in division.splits:
            found[division.splits[image.path]].append(image)
    assert {split: len(own) for split, own in found.items()} == {"train": 18, "query": count, "gallery": 12}
    assert {image.camid for image in found["query"]} == {"1"}
    assert {image.camid for image in found["gallery"]} == {"2", "-1"}
    assert {image.camid for image in found["train"]} == {"1", "2", "-1"}


def test_who_is_not_in_both_parts_of_the_cameras_is_not_tested():
    images = [
        *people(4),
        *people(6, cameras=("1",))[12:],
        *people(8, cameras=("2", "3"))[36:],
    ]
    division = split_by_identity(images, test_share=1, seed=0, queries=None, query_camera="1")
    assert division.without_match == ["p4", "p5", "p6", "p7"]
    queries = {path for path, split in division.splits.items() if split == "query"}
    assert queries == {image.path for image in people(4, cameras=("1",))}
    # The other cameras' images stay in the gallery, those of the camera that asks do not.
    assert {path.split("/")[0] for path in division.splits.keys() - queries} == {*"012367"}


def test_images_of_nobody_known_are_in_the_gallery():
    images = [*people(4), LabelledImage("x.jpg", "-1", "1"), LabelledImage("y.jpg", "-1.0", "2")]
    splits = by_split(images, split_by_identity(images, test_share=0.5, seed=0))
    assert {"x.jpg", "y.jpg"} <= {image.path for image in splits["gallery"]}
    assert "x.jpg" not in split_by_identity(images, test_share=0, seed=0).splits


@pytest.mark.parametrize(
    ("images", "options", "told"),
    [
        (people(4), {"test_share": 1.5}, "test_share is 1.5; allowed: 0 to 1"),
        (people(4), {"test_share": 0.5, "queries": 0}, "queries is 0; allowed: 1 or more"),
        (people(4), {"test_share": 0.1}, "`test_share` 0.1 leaves 0 of 4 identities for query and gallery"),
        (people(4), {"test_share": 0.9}, "`test_share` 0.9 leaves 0 of 4 identities for training"),
        (
            people(4, cameras=("1",)),
            {"test_share": 0.5},
            r"no query of the 4 identities would have a match; .* by a rule of names without \{camid\}",
        ),
        (people(0), {"test_share": 0.5}, "no query of the 0 identities would have a match"),
        (
            people(4),
            {"test_share": 0.5, "query_camera": "gate"},
            "`query_camera` is 'gate'; allowed: 1, 2",
        ),
        (
            people(4, cameras=("-1",)),
            {"test_share": 0.5, "query_camera": "1"},
            "`query_camera` is '1'; allowed: none, for no image has a camera",
        ),
    ],
)
def test_splits_that_cannot_be_made(images, options, told):
    with pytest.raises(ValueError, match=told):
        split_by_identity(images, seed=0, **options)
