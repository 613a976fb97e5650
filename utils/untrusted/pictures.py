"""Checks on image files of unknown origin.

No format runs a program, no header makes a decoder take memory or time, and damage is an error of one line.
"""

import errno
import io
import logging
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from PIL import ExifTags, Image, UnidentifiedImageError, features

from utils.text import printable
from utils.untrusted.plain import MEBIBYTE, read_plain

MAX_BYTES = 256 * MEBIBYTE
# Width times height that a header may claim, a quarter of a GiB as RGB. From here on Pillow warns; it refuses
# twice as much.
MAX_PIXELS = 89_478_485
MAX_SCANS = 100  # of a JPEG file, as in libtiff; each goes over the whole image. Encoders write about ten.
MAX_SEGMENTS = 10_000  # of a JPEG file, which Pillow reads one by one
MAX_EXIF = 100  # of them with EXIF, which Pillow joins one by one; cameras write one
MAX_STRIPS = 100_000  # of a TIFF file, for each of which Pillow takes 300 bytes
MAX_TILES = 4096  # of a JPEG 2000 file, whose decoder takes 12 KB for each
# Among Pillow's other formats are some that run programs, such as Ghostscript for PostScript. Not every build
# of Pillow has the decoders of the last two; both check the size in the header against that in the data.
FORMATS = (
    *("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"),
    *(["JPEG2000"] if features.check_codec("jpg_2000") else []),
    *(["AVIF"] if "avif" in features.modules and features.check_module("avif") else []),
)
_JPEG_START = b"\xff\xd8\xff"
# Height and width in a frame header; the lookahead finds headers that overlap.
_JPEG_FRAME = re.compile(rb"\xff(?=[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf].{3}(.{2})(.{2}))", re.DOTALL)
_JPEG_SEGMENT = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])(..)?", re.DOTALL)  # its marker and length
_SCAN, _JPEG_END = b"\xda", b"\xd9"
_EXIF = b"Exif\0\0"
_CROP = 8192  # bytes
_SEQUENTIAL = (b"\xc0", b"\xc1", b"\xc9")  # frames that are not progressive
_TIFF_STARTS = tuple(order + kind for order in (b"II", b"MM") for kind in (b"*\0", b"\0*", b"+\0", b"\0+"))
_TIFF_BYTES = (1, 2, 7)  # types of entries: bytes, text, anything
_TIFF_PRIVATE = 32768  # the first of the tags that Pillow does not look into
_JPEG_2000_STARTS = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")
# Width and height, of the image and of a tile, where a codestream begins.
_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51(?=.{4}(.{4})(.{4}).{8}(.{4})(.{4}))", re.DOTALL)
_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # too many open files, no memory

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


def read_picture(path: str) -> bytes:
    """The bytes of an image file.

    Raises FileNotFoundError if there is no such file, ValueError if it cannot be read, is no plain file or
    has more than `MAX_BYTES`; each is one line with the path.
    """
    try:
        return read_plain(path, MAX_BYTES)
    except FileNotFoundError:
        raise FileNotFoundError(f"{printable(path)}: no such image file") from None
    except (OSError, ValueError) as error:
        if getattr(error.__cause__ or error, "errno", None) in _MACHINE:
            raise
        reason = getattr(error, "strerror", None) or str(error).removeprefix(printable(path)).lstrip(" :")
        raise _unreadable(path, reason) from error


@contextmanager
def open_picture(path: str, data: bytes | None = None) -> Iterator[Image.Image]:
    """The opened image, whose pixels are decoded in the block; `data` are the file's bytes where known.

    Raises as `read_picture` does, and ValueError for a file that is damaged (here or in the block), no image,
    or beyond one of the limits above, before any pixel is decoded; each is one line with the path.
    """
    if data is None:
        data = read_picture(path)
    try:
        _require_bounds(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            sizes = [image.size]
            if image.format == "TIFF":  # a decoder takes memory for a whole tile
                tags = ExifTags.Base.TileWidth, ExifTags.Base.TileLength
                sizes.append(tuple(image.tag_v2.get(tag, 0) for tag in tags))
            for width, height in sizes:
                if width * height > MAX_PIXELS:
                    raise ValueError(
                        f"its header says {width} x {height} pixels; allowed: at most {MAX_PIXELS:,} in all"
                    )
            yield image
    except MemoryError:  # the machine's fault, not the file's
        raise
    except Exception as error:  # decoders raise errors of any type for a bad file
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            form = next((name for name in FORMATS if Image.OPEN[name][1](data[:16]) is True), "")
            text = f"cannot identify image file; allowed: {', '.join(FORMATS)}"
            if form:
                text = (
                    f"this form of {form} cannot be read, or it is damaged; allowed: 8 or 16 bits a channel"
                )
        raise _unreadable(path, text) from error


def is_small_jpeg(data: bytes) -> bool:
    """Whether it is a JPEG file within all limits.

    Bytes that only look like a frame header count as one, so that none can be hidden.
    """
    if not data.startswith(_JPEG_START) or _excess_of_jpeg(data):
        return False
    sizes = [[int.from_bytes(side, "big") for side in found.groups()] for found in _JPEG_FRAME.finditer(data)]
    return 0 < max((height * width for height, width in sizes), default=0) <= MAX_PIXELS


def may_be_turned(data: bytes) -> bool:
    """Whether a JPEG file may have an `orientation`, by a far faster look at its bytes."""
    header = len(data)
    if header > _CROP:
        header = next((start for marker, start, _ in _jpeg_segments(data) if marker == _SCAN), header)
    return any(data.find(mark, 0, header) >= 0 for mark in (_EXIF, b"tiff:Orientation"))


def orientation(image: Image.Image) -> int:
    """EXIF's number for how the image lies, 1 (upright) to 8; without one, or in a damaged block, 1."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # errors of any type
        return 1
    return value if value in range(1, 9) else 1


def _unreadable(path: str, reason: str) -> ValueError:
    return ValueError(f"{printable(path)}: cannot be read as an image: {reason}")


def _require_bounds(data: bytes) -> None:
    """Raise ValueError for a file that would take a decoder far more than its size."""
    excess = ""
    if data.startswith(_JPEG_START):
        excess = _excess_of_jpeg(data)
    elif data.startswith(_JPEG_2000_STARTS):
        excess = _excess_of_jpeg_2000(data)
    elif data.startswith(_TIFF_STARTS):
        excess = _excess_of_tiff(data)
    if excess:
        raise ValueError(excess)


def _excess_of_jpeg(data: bytes) -> str:
    """'' or the limit that the file exceeds, as far as decoders read it."""
    # Most crops of people: a scan or segment begins with this byte. Larger files are faster to walk through.
    if len(data) < _CROP and data.count(b"\xff") <= MAX_SCANS:
        return ""
    scans = components = exif = 0
    for number, (marker, start, _) in enumerate(_jpeg_segments(data), start=1):
        if marker in _SEQUENTIAL:
            components = data[start + 9 : start + 10]
        if marker == _SCAN and data[start + 4 : start + 5] == components:  # the one scan of all pixels
            break
        scans += marker == _SCAN
        exif += data.startswith(_EXIF, start + 4)
        if exif > MAX_EXIF:
            return f"it has more than {MAX_EXIF} segments of EXIF; allowed: at most {MAX_EXIF}"
        if scans > MAX_SCANS:
            return f"it has more than {MAX_SCANS} scans; allowed: at most {MAX_SCANS}"
        if number > MAX_SEGMENTS:
            return f"it has more than {MAX_SEGMENTS:,} segments; allowed: at most {MAX_SEGMENTS:,}"
    return ""


def _jpeg_segments(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Markers with start and end of their segments, as decoders find them, to the end of the image."""
    end = len(_JPEG_START) - 1
    while (found := _JPEG_SEGMENT.search(data, end)) and found[1] != _JPEG_END:
        start = found.start()
        end = start + 2 + int.from_bytes(found[2] or b"", "big")
        yield found[1], start, end


def _excess_of_jpeg_2000(data: bytes) -> str:
    for found in _CODESTREAM.finditer(data):
        width, height, tile_width, tile_height = (int.from_bytes(side, "big") for side in found.groups())
        tiles = -(-width // max(tile_width, 1)) * -(-height // max(tile_height, 1))
        if tiles > MAX_TILES:
            return f"its header says {tiles:,} tiles; allowed: at most {MAX_TILES:,}"
    return ""


def _excess_of_tiff(data: bytes) -> str:
    order, is_big = "<" if data.startswith(b"II") else ">", b"+" in data[2:4]
    offset, number, entry = ("8xQ", "Q", "HHQ8x") if is_big else ("4xI", "H", "HHI4x")
    (start,) = struct.unpack_from(order + offset, data)
    (entries,) = struct.unpack_from(order + number, data, start)
    start += struct.calcsize(order + number)
    size = struct.calcsize(order + entry)
    for place in range(start, min(start + entries * size, len(data) - size + 1), size):
        tag, kind, count = struct.unpack_from(order + entry, data, place)
        if count > MAX_STRIPS and tag < _TIFF_PRIVATE and kind not in _TIFF_BYTES:
            return f"its header says {count:,} values of tag {tag}; allowed: at most {MAX_STRIPS:,}"
    return ""
