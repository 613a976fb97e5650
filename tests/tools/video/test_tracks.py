"""Boxes to tracks, and tracks to people."""

import numpy as np
import torch

from tools.video.frames import Frame
from tools.video.joining import join_tracks, track_features
from tools.video.tracks import Tracker, iou


def box(x, y=0, width=10, height=20):
    return [x, y, x + width, y + height]


def numbers(tracker, boxes, seconds, kinds=None):
    """Of the tracks of boxes in a frame; those that are over are left out before."""
    tracker.end(seconds)
    frame = Frame(tracker.frames, seconds, np.zeros((30, 300, 3), dtype=np.uint8))
    classes = np.array(kinds or [0] * len(boxes), dtype=int)
    found = tracker.update(np.array(boxes, dtype=float).reshape(-1, 4), classes, frame)
    return [track.number for track in found]


def test_iou_by_hand():
    one, other = (
        np.array([box(0), box(100)], dtype=float),
        np.array([box(5), box(0), [0, 0, 0, 0]], dtype=float),
    )
    np.testing.assert_allclose(iou(one, other), [[1 / 3, 1, 0], [0, 0, 0]])


def test_boxes_continue_the_track_that_they_overlap_most():
    tracker = Tracker()
    assert numbers(tracker, [box(0), box(50)], 0.0) == [1, 2]
    assert numbers(tracker, [box(52), box(2), box(200)], 0.1) == [2, 1, 3]
    tracker = Tracker(least_iou=0.1)
    numbers(tracker, [box(0), box(4)], 0.0)
    assert numbers(tracker, [box(3), box(-5)], 0.1) == [2, 1]  # although 3 overlaps both


def test_a_track_waits_for_its_patience():
    tracker = Tracker(patience=1.0)
    numbers(tracker, [box(0)], 0.0)
    assert numbers(tracker, [], 0.5) == [] and numbers(tracker, [box(1)], 0.9) == [1]
    assert numbers(tracker, [], 1.0) == [] and numbers(tracker, [box(1)], 2.0) == [2]
    (track,) = tracker.end()
    assert (track.number, track.first.number, track.boxes) == (2, 4, 1) and track.last.image.size == 0


def test_frames_may_be_further_apart_than_the_patience():
    tracker = Tracker(patience=0.0)
    assert [numbers(tracker, [box(0)], second) for second in (0.0, 5.0, 10.0)] == [[1]] * 3


def test_a_car_does_not_continue_a_person():
    tracker = Tracker()
    assert numbers(tracker, [box(0), box(100)], 0.0, [0, 2]) == [1, 2]
    assert numbers(tracker, [box(0), box(100)], 0.1, [2, 2]) == [3, 2]


def test_little_overlap_begins_a_track():
    tracker = Tracker(least_iou=0.5)
    numbers(tracker, [box(0)], 0.0)
    assert numbers(tracker, [box(5)], 0.1) == [2]


def test_features_of_tracks():
    features = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [0, 1], [3, 4]]), dim=1)
    mean = track_features(features, [(0, 1), (2,)], [(0.5, 0.9), (0.7,)], "mean")
    torch.testing.assert_close(mean, torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))
    assert track_features(features, [(0, 1)], [(0.5, 0.9)], "best").tolist() == [[0, 1]]


def test_people_are_tracks_that_are_all_near():
    places = np.array([0.0, 0.1, 0.2, 1.0])
    distances, apart = np.abs(places[:, None] - places) * 2, np.eye(4, dtype=bool)
    one, two, three, four = join_tracks(distances, apart, 0.45)
    assert one == two == three != four
    apart[0, 1] = apart[1, 0] = True  # seen at once
    one, two, three, four = join_tracks(distances, apart, 0.45)
    assert one != two and three in (one, two) and four not in (one, two)
    assert len(set(join_tracks(distances, apart, 9.0))) == 2  # whatever the threshold
    assert join_tracks(np.zeros((1, 1)), np.ones((1, 1), dtype=bool), 0.5).tolist() == [1]
