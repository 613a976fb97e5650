"""Tracks by BoT-SORT of Ultralytics: ultralytics_tracks.py TRACKER.yaml FRAME.npy BOXES.npy OUT.npz

The frame comes four times. OUT has the features of the boxes, and the ids of the tracks in each frame.
"""

import sys

import numpy as np
from ultralytics.engine.results import Boxes
from ultralytics.trackers import BOTSORT
from ultralytics.utils import YAML, IterableSimpleNamespace

tracker, frame, boxes, out = sys.argv[1:]
settings = YAML.load(tracker) | {"device": "cpu", "gmc_method": "none"}
frame, boxes = np.load(frame), np.load(boxes)
found = np.column_stack([boxes, np.full(len(boxes), 0.9), np.zeros(len(boxes))]).astype(np.float32)
sort = BOTSORT(IterableSimpleNamespace(**settings))
ids = [sort.update(Boxes(found, frame.shape[:2]), frame)[:, 4] for _ in range(4)]
np.savez(out, ids=np.array(ids), features=[each.smooth_feat for each in sort.tracked_stracks])
