"""Frames of a video file or of a camera, by OpenCV."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.package import require_extra
from utils.text import printable

_logger = logging.getLogger("transreid.tools")


class Frame(NamedTuple):
    """A frame: its number from 0, seconds since the first one, and RGB (H, W, 3) uint8."""

    number: int
    seconds: float
    image: np.ndarray


def read_frames(source: str, every: int = 1) -> Iterator[Frame]:
    """Every n-th frame of a video file, turned as it says, or of a camera: its number, or an address.

    Seconds are those of the file's clock, or of this machine's for a camera. Damaged frames are left out, and
    counted in the log; a file that breaks off ends like one that is over. Raises ValueError for a source
    without any frame.
    """
    import cv2

    is_camera = _is_camera(source)
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    try:
        start, number, given, damaged = time.monotonic(), 0, 0, 0
        while capture.grab():
            seconds = time.monotonic() - start if is_camera else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if number % every == 0:
                whole, image = capture.retrieve()
                if whole:
                    given += 1
                    yield Frame(number, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                damaged += not whole
            number += 1
    finally:
        capture.release()
        if damaged:
            _logger.warning("%s: %d of %d frames are damaged and were left out", source, damaged, number)
    if not given:
        raise ValueError(f"{printable(source)}: no frame can be read; allowed: a video that OpenCV reads")


def count_frames(source: str, every: int = 1) -> int | None:
    """About how many frames `read_frames` gives; None where the source does not say.

    Raises FileNotFoundError for a missing file, MissingExtra without `[video]`.
    """
    require_extra("video")
    import cv2

    if _is_camera(source):
        return None
    if not Path(source).is_file():
        raise FileNotFoundError(
            f"{printable(source)}: no such video; allowed: a file, a camera's number or address"
        )
    capture = cv2.VideoCapture(source)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return -(-count // every) if count > 0 else None


def _is_camera(source: str) -> bool:
    return source.isdecimal() or "://" in source
