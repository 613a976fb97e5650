"""Cut people or vehicles out of a video: one picture for each time that somebody is seen, sorted by tracks.

python tools/crops.py --video street.mp4 --detector yolo=yolo11n.onnx --classes 0 --out logs/street

--out gets crops/TRACK/FRAME.jpg, a row for each picture in crops.csv, and one for each track in tracks.csv.
Ctrl-C ends it with what is found until then. Pictures of people are personal data: nothing else is stored,
and nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from tqdm import tqdm

from config.arguments import Parser, end_in_one_line, one_or_more
from tools.video.frames import Frame, count_frames, read_frames
from utils.logger import setup_logger
from utils.signals import StopRequest

if TYPE_CHECKING:
    from tools.video.detectors import Detections, Detector
    from tools.video.tracks import Track, Tracker

CSV, TRACKS = "crops.csv", "tracks.csv"
TRACK_COLUMNS = ("track", "camid", "first_frame", "last_frame", "first", "last", "boxes")
# The first four make it a data set for training without identities.
COLUMNS = (
    "path",
    "pid",
    "split",
    "camid",
    "track",
    "class",
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
    """A picture (h, w, 3) of a track of class `kind`; `box` is left, top, right, bottom in whole pixels."""

    track: int
    kind: int
    frame: int
    seconds: float
    score: float
    box: tuple[int, int, int, int]
    picture: np.ndarray


def find_crops(
    frames: Iterable[Frame], detector: Detector, tracker: Tracker, args: argparse.Namespace
) -> Iterator[Crop | Track]:
    """Crops of each track, `args.pause` seconds apart, and each track when it is over.

    Those of a track come as soon as it has `args.least_frames` boxes; without so many it is left out.
    """
    waiting: dict[int, list[Crop]] = {}
    latest: dict[int, float] = {}

    def end(over: list[Track]) -> Iterator[Track]:
        for track in over:
            waiting.pop(track.number, None)
            latest.pop(track.number)
            if track.boxes >= args.least_frames:
                yield track

    for frame in frames:
        yield from end(tracker.end(frame.seconds))
        found = _chosen(detector(frame.image), frame, args)
        tracks = tracker.update(found.boxes, found.classes, frame)
        for track, box, score in zip(tracks, found.boxes, found.scores, strict=True):
            if frame.seconds - latest.get(track.number, -np.inf) >= args.pause:
                latest[track.number] = frame.seconds
                waiting.setdefault(track.number, []).append(_crop(track, frame, box, float(score)))
            if track.boxes >= args.least_frames:
                yield from waiting.pop(track.number, [])
    yield from end(tracker.end())


def _crop(track: Track, frame: Frame, box: np.ndarray, score: float) -> Crop:
    left, top, right, bottom = map(int, box)
    picture = frame.image[top:bottom, left:right].copy()  # not a view, which would keep the frame
    return Crop(
        track.number, track.kind, frame.number, frame.seconds, score, (left, top, right, bottom), picture
    )


def _chosen(found: Detections, frame: Frame, args: argparse.Namespace) -> Detections:
    """Boxes of the wanted classes, sure and large enough, rounded and inside the frame."""
    height, width = frame.image.shape[:2]
    boxes = np.nan_to_num(found.boxes).round().clip(0, [width, height, width, height])
    keep = (found.scores >= args.score) & (boxes[:, 3] - boxes[:, 1] >= args.least_height)
    keep &= boxes[:, 2] - boxes[:, 0] >= 1
    if args.classes is not None:
        keep &= np.isin(found.classes, args.classes)
    return found._replace(boxes=boxes[keep], scores=found.scores[keep], classes=found.classes[keep])


def cut(args: argparse.Namespace) -> int:
    """Write the crops of a video and return their number; SIGINT and SIGTERM end it with what is there.

    Raises ValueError or OSError for a video, a detector or a folder that cannot be used.
    """
    from tools.video.detectors import make_detector
    from tools.video.tracks import Tracker

    total = count_frames(args.video, args.every)
    out = Path(args.out)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"--out {out} is not empty; allowed: a new or an empty folder")
    detector = make_detector(args.detector)
    tracker = Tracker(args.iou, args.patience)
    frames = read_frames(args.video, args.every)
    first = next(frames)
    detector(first.image)  # a wrong video or graph ends here, before there is a folder
    bar = tqdm(chain([first], frames), "crops", total, leave=False, disable=None, unit="frame")
    crops, tracks = 0, 0
    out.mkdir(parents=True, exist_ok=True)
    with StopRequest().listening() as stop, ExitStack() as stack:
        write_crop = stack.enter_context(_table(out / CSV, COLUMNS))
        write_track = stack.enter_context(_table(out / TRACKS, TRACK_COLUMNS))
        stack.enter_context(stop.deferred())
        until_stopped = takewhile(lambda _: not stop.signal, bar)
        for found in find_crops(until_stopped, detector, tracker, args):
            if isinstance(found, Crop):
                write_crop(_save(found, out, args))
                crops += 1
            else:
                first, last = found.first, found.last
                times = _clock(first.seconds, args), _clock(last.seconds, args)
                write_track([found.number, args.camera, first.number, last.number, *times, found.boxes])
                tracks += 1
    if stop.signal:
        _logger.warning("stopped after %d frames: what was found until then is written", tracker.frames)
    _logger.info(
        "%d frames, %d crops of %d tracks in %s; %d tracks have fewer than %d boxes and were left out",
        *(tracker.frames, crops, tracks, out / CSV, tracker.count - tracks, args.least_frames),
    )
    return crops


@contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Sequence[object]], None]]:
    """A function that writes a row of a CSV file, so that it is on the disk when the program is killed."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)

        def write(row: Sequence[object]) -> None:
            writer.writerow(row)
            file.flush()

        write(columns)
        yield write


def _save(crop: Crop, out: Path, args: argparse.Namespace) -> Sequence[object]:
    """Write the picture of a crop; returns its row of COLUMNS."""
    path = Path("crops", f"{crop.track:06d}", f"{crop.frame:08d}.jpg")
    (out / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(crop.picture).save(out / path, quality=_QUALITY)
    labels = path.as_posix(), "", "train", args.camera
    return [
        *labels,
        crop.track,
        crop.kind,
        crop.frame,
        _clock(crop.seconds, args),
        f"{crop.score:.3f}",
        *crop.box,
    ]


def _clock(seconds: float, args: argparse.Namespace) -> str:
    if args.start is None:
        return f"{seconds:.3f}"
    return (args.start + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def _share(text: str) -> float:
    return _number(text, 1.0)


def _seconds(text: str) -> float:
    return _number(text, np.inf)


def _number(text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= most:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: 0 {'or more' if most == np.inf else 'to 1'}")
    return value


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add(
        "--video",
        required=True,
        metavar="WHAT",
        help="video file, number of a camera of this machine, or rtsp://… address",
    )
    add(
        "--detector",
        required=True,
        metavar="KIND=FILE",
        help="ssd, yolo or exported and a graph (.onnx, or what OpenVINO reads), or one of torchvision's "
        "detection models, such as fasterrcnn_resnet50_fpn, and its weights",
    )
    add("--out", required=True, metavar="DIR", help="new folder to write to")
    add("--classes", type=int, nargs="+", metavar="N", help="class numbers of the detector (default: all)")
    add("--score", type=_share, default=0.5, metavar="X", help="least score of a box (default: %(default)s)")
    add(
        "--least_height",
        type=one_or_more,
        default=32,
        metavar="PIXELS",
        help="least height of a box (default: %(default)s)",
    )
    add("--every", type=one_or_more, default=1, metavar="N", help="read every n-th frame (default: 1)")
    add(
        "--pause",
        type=_seconds,
        default=0.5,
        metavar="SECONDS",
        help="between crops of a track (default: 0.5)",
    )
    add(
        "--iou", type=_share, default=0.3, metavar="X", help="least overlap in a track (default: %(default)s)"
    )
    add(
        "--patience",
        type=_seconds,
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
