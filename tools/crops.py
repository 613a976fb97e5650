"""Cut people or vehicles out of a video: one picture for each time that somebody is seen, sorted by tracks.

python tools/crops.py --video street.mp4 --detector yolo=yolo11n.onnx --classes 0 --out logs/street

--out gets crops/TRACK/FRAME.jpg and crops.csv, a row for each picture. Pictures of people are personal data:
nothing else is stored, and nothing leaves this machine.
"""

import argparse
import csv
import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from tqdm import tqdm

from config.arguments import Parser, end_in_one_line, one_or_more
from tools.video.detectors import Detections, Detector, make_detector
from tools.video.frames import Frame, count_frames, read_frames
from tools.video.tracks import Track, Tracker
from utils.logger import setup_logger

CSV = "crops.csv"
# The first four make it a data set for training without identities.
COLUMNS = (
    "path",
    "pid",
    "split",
    "camid",
    "track",
    "frame",
    "time",
    "score",
    "left",
    "top",
    "right",
    "bottom",
)
_QUALITY = 95  # of JPEG
_logger = logging.getLogger("transreid.tools")


class Crop(NamedTuple):
    """A box of a track in a frame, left, top, right, bottom in whole pixels inside of it."""

    frame: Frame
    track: Track
    box: tuple[int, int, int, int]
    score: float

    def picture(self) -> Image.Image:
        """The pixels of the box."""
        left, top, right, bottom = self.box
        return Image.fromarray(self.frame.image[top:bottom, left:right])


def find_crops(
    frames: Iterator[Frame], detector: Detector, tracker: Tracker, args: argparse.Namespace
) -> Iterator[Crop]:
    """Crops of each track, `args.pause` seconds apart, as soon as it has `args.least_frames` boxes."""
    waiting: dict[int, list[Crop]] = {}
    latest: dict[int, float] = {}
    for frame in frames:
        found = _chosen(detector(frame.image), frame, args)
        tracks = tracker.update(found.boxes, frame.seconds)
        for track, box, score in zip(tracks, found.boxes, found.scores, strict=True):
            if frame.seconds - latest.get(track.number, -np.inf) >= args.pause:
                latest[track.number] = frame.seconds
                left, top, right, bottom = map(int, box)
                waiting.setdefault(track.number, []).append(
                    Crop(frame, track, (left, top, right, bottom), float(score))
                )
            if track.seen >= args.least_frames:
                yield from waiting.pop(track.number, [])


def _chosen(found: Detections, frame: Frame, args: argparse.Namespace) -> Detections:
    """Boxes of the wanted classes, sure and large enough, rounded and inside the frame."""
    height, width = frame.image.shape[:2]
    boxes = np.nan_to_num(found.boxes).round().clip(0, [width, height, width, height])
    keep = (found.scores >= args.score) & (boxes[:, 3] - boxes[:, 1] >= args.least_height)
    keep &= boxes[:, 2] - boxes[:, 0] >= 1
    if args.classes is not None:
        keep &= np.isin(found.classes, args.classes)
    return Detections(boxes[keep], found.scores[keep], found.classes[keep])


def cut(args: argparse.Namespace) -> int:
    """Write the crops of a video and return their number; Ctrl-C ends it with what is there.

    Raises ValueError or OSError for a video, a detector or a folder that cannot be used.
    """
    total = count_frames(args.video, args.every)
    out = Path(args.out)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"--out {out} is not empty; allowed: a new or an empty folder")
    detector = make_detector(args.detector)
    tracker = Tracker(args.iou, args.patience)
    frames = read_frames(args.video, args.every)
    bar = tqdm(frames, "crops", total, leave=False, disable=None, unit="frame")
    count, tracks = 0, set()
    out.mkdir(parents=True, exist_ok=True)
    with open(out / CSV, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        try:
            for crop in find_crops(iter(bar), detector, tracker, args):
                writer.writerow(_save(crop, out, args))
                file.flush()
                count += 1
                tracks.add(crop.track.number)
        except KeyboardInterrupt:
            _logger.warning("stopped after %d frames: what was found until then is written", tracker.frames)
    _logger.info(
        "%d frames, %d crops of %d tracks in %s; %d tracks have fewer than %d boxes and were left out",
        *(tracker.frames, count, len(tracks), out / CSV, tracker.count - len(tracks), args.least_frames),
    )
    return count


def _save(crop: Crop, out: Path, args: argparse.Namespace) -> tuple[object, ...]:
    """Write the picture of a crop; returns its row of COLUMNS."""
    path = Path("crops", f"{crop.track.number:06d}", f"{crop.frame.number:08d}.jpg")
    (out / path).parent.mkdir(parents=True, exist_ok=True)
    crop.picture().save(out / path, quality=_QUALITY)
    seconds = crop.frame.seconds
    time = (
        (args.start + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
        if args.start
        else f"{seconds:.3f}"
    )
    labels = path.as_posix(), "", "train", args.camera
    return *labels, crop.track.number, crop.frame.number, time, f"{crop.score:.3f}", *crop.box


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--video", required=True, metavar="WHAT", help="video file, or number of a camera of this machine")
    add(
        "--detector",
        required=True,
        metavar="KIND=FILE",
        help="ssd, yolo or exported and a graph (.onnx, or what OpenVINO reads), or one of torchvision's "
        "detection models, such as fasterrcnn_resnet50_fpn, and its weights",
    )
    add("--out", required=True, metavar="DIR", help="new folder to write to")
    add("--classes", type=int, nargs="+", metavar="N", help="class numbers of the detector (default: all)")
    add("--score", type=float, default=0.5, metavar="X", help="least score of a box (default: %(default)s)")
    add(
        "--least_height",
        type=one_or_more,
        default=32,
        metavar="PIXELS",
        help="least height of a box (default: %(default)s)",
    )
    add("--every", type=one_or_more, default=1, metavar="N", help="read every n-th frame (default: 1)")
    add("--pause", type=float, default=0.5, metavar="SECONDS", help="between crops of a track (default: 0.5)")
    add("--iou", type=float, default=0.3, metavar="X", help="least overlap in a track (default: %(default)s)")
    add(
        "--patience",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="without a box after which a track is over (default: %(default)s)",
    )
    add(
        "--least_frames",
        type=one_or_more,
        default=5,
        metavar="N",
        help="boxes of a track below which it is left out (default: %(default)s)",
    )
    add("--camera", type=int, default=0, metavar="N", help="camid in crops.csv (default: %(default)s)")
    add(
        "--start",
        type=datetime.fromisoformat,
        metavar="TIME",
        help="time of the first frame, as 2026-05-04T08:00:00 (default: times are seconds from 0)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    args = _parse(argv)
    setup_logger(None, "")
    with end_in_one_line():
        cut(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
