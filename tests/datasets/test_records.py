import pytest

from datasets import ImageRecord, ReIDDataset, Trial
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


def test_a_data_set_without_trials_is_refused():
    with pytest.raises(ValueError, match="data set 'x': 0 trials given, at least 1"):
        ReIDDataset("x", [A], [], "person")


def test_images_of_no_known_identity_are_counted_as_images_alone():
    data = ReIDDataset("x", [A, B, B._replace(pid=NO_PID)], [Trial([A], [B])], "person")
    assert data.num_train_pids == 1
    assert "train   |      1 |        3 |         2" in data.table()
