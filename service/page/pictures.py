"""Small pictures inside the page: nothing of a gallery is a file that a browser could ask for."""

from __future__ import annotations

import base64
import io
import threading

from PIL import Image

from utils.modes import to_rgb
from utils.untrusted.pictures import open_picture

_QUALITY = 85
_decoding = threading.Semaphore(2)  # a large picture takes a quarter of a GiB


def small_picture(data: bytes, most: int) -> str:
    """An image file as the address of a JPEG inside a page, each side at most `most` pixels; upright.

    Raises ValueError for a file that is no picture.
    """
    with _decoding, open_picture("picture", data) as image:
        image.draft("RGB", (most, most))
        small = to_rgb(image, upright=True)
        small.thumbnail((most, most), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
