"""Tracks of boxes over the frames of one camera, by the overlap of boxes."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from tools.video.frames import Frame

_NO_PIXELS = np.empty((0, 0, 3), dtype=np.uint8)
_LOW, _HIGH = slice(0, 2), slice(2, 4)  # corners of a box


@dataclass(eq=False)
class Track:
    """A thing that was followed: its number from 1, its boxes (x, y, x, y) and the frames that had them."""

    number: int
    first: Frame  # without pixels
    last: Frame
    box: np.ndarray
    kind: int  # class number of the detector
    boxes: int = 1
    is_missed: bool = False  # in the frame before


class Tracker:
    """Gives boxes of successive frames the tracks that they continue.

    Boxes and tracks of one class are paired so that the sum of their IoU (intersection over union) is
    largest.

    Args:
        least_iou: a box with less overlap with the last one of a track does not continue it.
        patience: seconds without a box after which a track is over.
    """

    def __init__(self, least_iou: float = 0.3, patience: float = 1.0) -> None:
        self.least_iou, self.patience = least_iou, patience
        self.count = self.frames = 0  # tracks and updates so far
        self._tracks: list[Track] = []

    def update(self, boxes: np.ndarray, classes: np.ndarray, frame: Frame) -> list[Track]:
        """The tracks of boxes (N, 4) of classes (N,), in order; a box that continues none begins one."""
        self.frames += 1
        overlaps = iou(boxes, np.array([track.box for track in self._tracks]).reshape(-1, 4))
        kinds = np.array([track.kind for track in self._tracks], dtype=np.int64)
        overlaps[(overlaps < self.least_iou) | (classes[:, None] != kinds)] = 0
        pairs = zip(*linear_sum_assignment(overlaps, maximize=True), strict=True)
        found = {box: self._tracks[track] for box, track in pairs if overlaps[box, track] > 0}
        seen = frame._replace(image=_NO_PIXELS)
        for track in self._tracks:
            track.is_missed = True
        named = enumerate(zip(boxes, classes, strict=True))
        return [self._continue(found.get(row), box, int(kind), seen) for row, (box, kind) in named]

    def end(self, seconds: float | None = None) -> list[Track]:
        """The tracks that are over at a time, by default all; they are forgotten.

        A track with a box in the latest frame is not over, however long ago that is.
        """
        over = [
            track
            for track in self._tracks
            if seconds is None or (track.is_missed and seconds - track.last.seconds > self.patience)
        ]
        self._tracks = [track for track in self._tracks if track not in over]
        return over

    def _continue(self, track: Track | None, box: np.ndarray, kind: int, frame: Frame) -> Track:
        if track is None:
            self.count += 1
            track = Track(self.count, frame, frame, box, kind)
            self._tracks.append(track)
        else:
            track.box, track.last, track.boxes, track.is_missed = box, frame, track.boxes + 1, False
        return track


def iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4), each left, top, right, bottom."""
    low, high = (f(one[:, None, k], other[None, :, k]) for f, k in ((np.maximum, _LOW), (np.minimum, _HIGH)))
    shared = (high - low).clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
