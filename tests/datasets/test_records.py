from dataclasses import replace

import pytest

from datasets import CaptionDataset, CaptionRecord, ImageRecord, ReIDDataset, Trial
from datasets.records import join_training
from utils.labels import NO_PID

A, B, C = ImageRecord("a", 3, 0, 1), ImageRecord("b", 3, 1, 1), ImageRecord("c", 5, -1, 1)


def test_counts_are_distinct_training_values():
    data = ReIDDataset("x", [A, B, ImageRecord("d", 9, 4, 2)], [Trial([A], [B])], "person")
    assert (data.num_train_pids, data.num_train_cams, data.num_train_views) == (2, 3, 2)


def test_an_empty_training_split_counts_nothing():
    data = ReIDDataset("x", [], [Trial([A], [B])], "person")
    assert (data.num_train_pids, data.num_train_cams, data.num_train_views) == (0, 0, 0)


def test_query_and_gallery_are_the_first_trial():
    data = ReIDDataset("x", [], [Trial([A], [B, C]), Trial([B], [A, C])], "person")
    assert (data.query, data.gallery) == ([A], [B, C])


def test_test_records_have_each_path_once_in_order_of_appearance():
    moved = B._replace(camid=7)
    data = ReIDDataset("x", [], [Trial([C], [B]), Trial([moved], [A, C])], "person")
    assert data.test_records() == [C, B, A]


def test_table_counts_known_cameras_only_and_names_the_trials():
    data = ReIDDataset("x", [A, B, C], [Trial([C], [A, B]), Trial([A], [B])], "person")
    assert data.table().splitlines()[2:] == [
        "train   |      2 |        3 |         2",
        "query   |      1 |        1 |         0",
        "gallery |      1 |        2 |         2",
        "query and gallery: the first of 2 trials",
    ]


def test_the_table_has_the_splits_that_were_read():
    tested = ReIDDataset("x", [], [Trial([C], [A, B])], "person")
    trained = ReIDDataset("x", [A], [Trial([], [])], "person")
    rows = [[line.split()[0] for line in each.table().splitlines()[2:]] for each in (tested, trained)]
    assert rows == [["query", "gallery"], ["train"]]
    assert len({line.index("|") for line in trained.table().splitlines()}) == 1


def test_a_data_set_without_trials_is_refused():
    with pytest.raises(ValueError, match="data set 'x': 0 trials given, at least 1"):
        ReIDDataset("x", [A], [], "person")


def test_images_of_no_known_identity_are_counted_as_images_alone():
    data = ReIDDataset("x", [A, B, B._replace(pid=NO_PID)], [Trial([A], [B])], "person")
    assert data.num_train_pids == 1
    assert "train   |      1 |        3 |         2" in data.table()


# ---- training sets that are joined


def part(name, records, query=(), gallery=(), **more):
    trials = [Trial(*([ImageRecord(f"{name}/{r[0]}", *r[1:]) for r in split] for split in (query, gallery)))]
    train = [ImageRecord(f"{name}/{path}", *labels) for path, *labels in records]
    return ReIDDataset(name, train, trials, "person", **more)


ONE = [("a", 0, 0, 0), ("b", 1, 2, 1), ("c", -1, -1, 1)]
TWO = [("a", 0, 1, 5), ("b", -1, -1, 0), ("c", 1, 0, 0)]


def labels(records):
    return [record[:4] for record in records]


def test_labels_of_parts_follow_each_other_and_unknown_ones_stay():
    x, y, z = (part(name, records) for name, records in (("x", ONE), ("y", TWO), ("z", ONE[:1])))
    joined = join_training([x, y, z], x)
    assert labels(joined.train) == [
        *(("x/a", 0, 0, 0), ("x/b", 1, 2, 1), ("x/c", -1, -1, 1)),
        *(("y/a", 2, 4, 5), ("y/b", -1, -1, 0), ("y/c", 3, 3, 0)),
        ("z/a", 4, 5, 0),
    ]
    assert (joined.name, joined.num_train_pids, joined.camera_rows) == ("x+y+z", 5, {"x": 3, "y": 2, "z": 1})
    assert [line.split() for line in joined.table().splitlines()[2:6]] == [
        ["train", "|", "5", "|", "7", "|", "5"],
        ["-", "x", "|", "2", "|", "3", "|", "2"],
        ["-", "y", "|", "2", "|", "3", "|", "2"],
        ["-", "z", "|", "1", "|", "1", "|", "1"],
    ]
    assert len({line.index("|") for line in joined.table().splitlines() if "|" in line}) == 1


@pytest.mark.parametrize(
    ("name", "cameras", "wanted"),
    [
        ("x", (0, 2), [0, 2]),  # the first part's own
        ("y", (0, 1), [3, 4]),  # those of the part in training
        ("y", (0, 2), [5, 7]),  # one of them was not in training: none has a row
        ("z", (0, 1), [5, 6]),  # another site
        ("z", (-1, 0), [-1, 5]),
    ],
)
def test_cameras_of_the_tests_have_rows_in_training_or_follow_all(name, cameras, wanted):
    tests = [("q", 7, cameras[0], 0)], [("g", 7, cameras[1], 3)]
    x, y, z = part("x", ONE), part("y", TWO), part("z", ONE)
    test = part(name, TWO if name == "y" else ONE, *tests, upright=name == "z")
    joined = join_training([test if each.name == name else each for each in (x, y)], test)
    assert labels(joined.query + joined.gallery) == [
        (f"{name}/q", 7, wanted[0], 0),
        (f"{name}/g", 7, wanted[1], 3),
    ]
    assert joined.upright == test.upright and z.upright is False


def test_an_image_in_two_parts_is_refused():
    twice = part("x", [("../same", 0, 0, 0)]), part("y", [("../same", 0, 0, 0)])
    one, other = (replace(each, train=[each.train[0]._replace(key="same.jpg")]) for each in twice)
    with pytest.raises(ValueError, match=r"same\.jpg is in x and in y"):
        join_training([one, other], one)
    assert len(join_training([replace(one, train=one.train * 2)], one).train) == 2  # as one data set has it


# ---- captions


def test_the_table_of_captions_counts_images_and_words():
    train = [CaptionRecord("1.jpg", 0, text, "", f"1.jpg#{text}") for text in ("a man", "a man in red")]
    image, other = ImageRecord("2.jpg", 7, -1, 0), ImageRecord("3.jpg", NO_PID, -1, 0)
    query = [CaptionRecord("2.jpg", 7, "a boy", "", "2.jpg#0")]
    told = [
        "train |      1 |        1 |          2 |         3.0,    4",
        "val   |      1 |        2 |          1 |         2.0,    2",
    ]
    for trial in (Trial(query, [image, other], "all"), Trial([image, other], query, "all")):
        assert CaptionDataset("x", train, [trial], split="val").table().splitlines()[2:] == told
    tested = CaptionDataset("x", [], [Trial(query, [image], "all")])
    assert [line.split()[0] for line in tested.table().splitlines()[2:]] == ["test"]
    with pytest.raises(ValueError, match="data set 'x': 0 trials given, at least 1"):
        CaptionDataset("x", train, [])


def test_the_table_of_captions_has_a_line_for_each_of_several_languages():
    image = ImageRecord("3.jpg", 7, -1, 0)
    train = [CaptionRecord(f"{n}.jpg", n, "a man", "", f"{n}.jpg#0") for n in (1, 2)]
    train.append(CaptionRecord("1.jpg", 1, "红", "", "1.jpg#zh0", language="zh"))
    query = [CaptionRecord("3.jpg", 7, "a b c", "", "3.jpg#pt-BR0", language="pt-BR")]
    assert CaptionDataset("x", train, [Trial(query, [image], "all")]).table().splitlines() == [
        "split           |  # ids | # images | # captions | words: mean, most",
        "----------------|--------|----------|------------|------------------",
        "train           |      2 |        2 |          3 |         1.7,    2",
        "- caption       |      2 |        2 |          2 |         2.0,    2",
        "- caption_zh    |      1 |        1 |          1 |         1.0,    1",
        "test            |      1 |        1 |          1 |         3.0,    3",
        "- caption_pt-BR |      1 |        1 |          1 |         3.0,    3",
    ]
    same = CaptionDataset("x", [], [Trial(query, [image], "all")])
    assert len(same.table().splitlines()) == 3
    with pytest.raises(ValueError, match="data set 'x': 2 names of 1 trials"):
        CaptionDataset("x", [], [Trial(query, [image])], trial_names=("caption", "caption_zh"))
