"""Pictures of rankings: when they are drawn, and what is on them."""

import numpy as np
import pytest
import torch
from PIL import Image

from processor.trackers import RankingPictures, draw_rankings
from retrieval import FeatureSet, LabelNames, RetrievalTask

COLOURS = {"query": (26, 86, 219), "match": (15, 157, 88), "miss": (217, 48, 37), "unknown": (138, 143, 152)}


@pytest.fixture
def task(tmp_path):
    """Two queries; the nearest of the first is a match, then a miss and an unknown one follow."""

    def save(name, value):
        Image.new("RGB", (16, 32), (value, value, value)).save(tmp_path / name)
        return str(tmp_path / name)

    query = FeatureSet(
        torch.tensor([[0.0, 0.0], [5.0, 0.0]]),
        torch.tensor([1, 2]),
        torch.tensor([0, 0]),
        [save("q0.png", 1), save("q1.png", 2)],
    )
    gallery = FeatureSet(
        torch.tensor([[0.1, 0.0], [1.0, 0.0], [2.0, 0.0]]),
        torch.tensor([1, 2, -1]),
        torch.tensor([1, 1, 1]),
        [save(f"g{row}.png", 100 + row) for row in range(3)],
    )
    return RetrievalTask.between(query, gallery)


def frames(picture, row):
    """The colours of the left edges of a row's cells."""
    pixels = np.asarray(picture)
    down = 6 + row * (128 + 8 + 6 + 16) + 16 + 70
    return [tuple(int(value) for value in pixels[down, 6 + place * (96 + 8 + 6) + 1]) for place in range(4)]


def test_frames_say_what_matches(task):
    picture = draw_rankings(task, top=3)
    assert frames(picture, 0) == [COLOURS[name] for name in ("query", "match", "miss", "unknown")]
    assert frames(picture, 1)[0] == COLOURS["query"]
    assert picture.size == (6 + 4 * 110, 6 + 2 * 158)
    pixels = np.asarray(picture)
    assert tuple(pixels[6 + 16 + 68, 6 + 4 + 48]) == (1, 1, 1)  # the middle of the first query's picture


def test_queries_are_spread_over_all(task):
    many = RetrievalTask.between(
        FeatureSet(
            torch.arange(40.0).reshape(20, 2),
            torch.ones(20, dtype=torch.int64),
            torch.zeros(20, dtype=torch.int64),
            [task.images.paths[0]] * 20,
            [f"q{row}" for row in range(20)],
        ),
        next(iter(task)).gallery,
    )
    assert draw_rankings(many, queries=3, top=1).height == 6 + 3 * 158
    assert draw_rankings(many, queries=50, top=1).height == 6 + 20 * 158


def test_texts_are_drawn_as_text(task):
    images = task.images
    names = LabelNames(items={images.keys[0]: "a person in a red coat, 東京, and with a bag " * 3})
    named = FeatureSet(images.features, images.pids, images.camids, images.paths, images.keys, names=names)
    picture = draw_rankings(RetrievalTask(named, task.trials, task.info, names), top=1)
    inside = np.asarray(picture)[6 + 16 + 4 : 6 + 16 + 132, 10:106]
    assert inside.min() < 64 and (inside == 255).mean() > 0.5  # letters on white


class Board:
    def __init__(self):
        self.shown = []

    def show(self, name, path, record):
        assert path.is_file()
        self.shown.append((name, path.name, record["epoch"]))


def test_a_picture_is_due_after_so_many_epochs_of_a_stage(task, tmp_path):
    boards = [Board(), Board()]
    tracker = RankingPictures(tmp_path / "pictures", 15, boards)
    states = []
    for stage, epoch in (("untrained", 0), *(("a", e) for e in (10, 20, 30, 40)), ("b", 10), ("b", 15)):
        tracker.see(task)
        tracker.log({"stage": stage, "epoch": epoch})
        states.append(tracker.state())
    wanted = [("a", 20), ("a", 40), ("b", 15)]
    assert boards[0].shown == [("rankings", f"rankings_{s}_{e}.png", e) for s, e in wanted]
    assert boards[1].shown == boards[0].shown
    tracker.rewind(states[2])
    tracker.see(task)
    tracker.log({"stage": "a", "epoch": 30})
    assert len(boards[0].shown) == 3  # that of epoch 20 was there
    tracker.rewind({})
    tracker.see(task)
    tracker.log({"stage": "a", "epoch": 30})
    assert boards[0].shown[-1] == ("rankings", "rankings_a_30.png", 30)


def test_an_epoch_without_evaluation_has_none(task, tmp_path):
    board = Board()
    tracker = RankingPictures(tmp_path / "pictures", 1, [board])
    tracker.log({"stage": "a", "epoch": 1})
    tracker.see(task)
    tracker.log({"stage": "a", "epoch": 2})
    tracker.log({"stage": "a", "epoch": 3})
    assert [epoch for *_, epoch in board.shown] == [2]
