"""Checks on image files of unknown origin.

No format runs a program, no header makes a decoder take memory, and damage is an error of one line.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from PIL import Image, features

# Width times height that a header may claim, a quarter of a GiB as RGB. From here on Pillow warns; it refuses
# twice as much.
MAX_PIXELS = 89_478_485
# Among Pillow's other formats are some that run programs, such as Ghostscript for PostScript. Not every build
# of Pillow has the decoders of the last two; both check the size in the header against that in the data.
FORMATS = (
    *("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"),
    *(["JPEG2000"] if features.check_codec("jpg_2000") else []),
    *(["AVIF"] if "avif" in features.modules and features.check_module("avif") else []),
)
# Height and width in a frame header; the lookahead finds headers that overlap.
_JPEG_FRAME = re.compile(rb"\xff(?=[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf].{3}(.{2})(.{2}))", re.DOTALL)

# What Pillow says of an odd file is not printed: it is in the error or of no consequence.
logging.getLogger("PIL").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module=r"PIL\b")


@lru_cache(1)
def picture_suffixes() -> tuple[str, ...]:
    """The suffixes of files in `FORMATS`, in lower case and alphabetical."""
    # .mpo are JPEG files with further images. .pfm hold numbers without a range, which no image is made of.
    formats = {*FORMATS, "MPO"}
    known = Image.registered_extensions().items()
    return tuple(sorted(suffix for suffix, name in known if name in formats and suffix != ".pfm"))


@contextmanager
def open_picture(path: str) -> Iterator[Image.Image]:
    """The opened image, whose pixels are decoded in the block.

    Raises FileNotFoundError if there is no such file, ValueError for a file that is damaged (here or in the
    block), no image or of more than `MAX_PIXELS`, before any pixel is decoded; both are one line with the
    path.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(
                    f"its header says {width} x {height} pixels; allowed: at most {MAX_PIXELS:,} in all"
                )
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image file") from None
    except MemoryError:  # the machine's fault, not the file's
        raise
    except Exception as error:  # decoders raise errors of any type for a bad file
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: cannot be read as an image: {text}") from error


def is_small_jpeg(data: bytes | bytearray) -> bool:
    """Whether it is a JPEG file whose frame headers claim at most `MAX_PIXELS` pixels.

    Bytes that only look like a frame header count as one, so that none can be hidden.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    sizes = [[int.from_bytes(side, "big") for side in found.groups()] for found in _JPEG_FRAME.finditer(data)]
    return 0 < max((height * width for height, width in sizes), default=0) <= MAX_PIXELS
