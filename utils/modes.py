"""From any image that Pillow opens to RGB of 8 bits a channel, turned upright where that is wanted."""

import logging

import numpy as np
from PIL import ExifTags, Image
from PIL.Image import Transpose

from utils.text import Tally
from utils.untrusted.pictures import orientation

TURNS = {  # to upright, by EXIF's number
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_TURNS_BACK = TURNS | {6: Transpose.ROTATE_90, 8: Transpose.ROTATE_270}
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_OTHER_COLOURS = ("CMYK", "LAB", "YCbCr")
# Of TIFF: photometric interpretation, which Pillow minds in grey of 8 bits only; sample format; planes.
_WHITE_IS_ZERO, _SIGNED, _SEPARATE = 0, 2, 2
_logger = logging.getLogger("transreid.datasets")


def to_rgb(image: Image.Image, *, upright: bool = False) -> Image.Image:
    """The image as RGB: of 16 or 12 bits the highest 8, without transparency, its first frame.

    With `upright` it is turned as its EXIF orientation says. Raises ValueError for pixels whose range is not
    known (signed, of 32 bits, floats) and for planes of 16 bits that Pillow takes for 8.
    """
    depth = _depth(image)
    number = orientation(image)
    image.load()
    if depth > 8:
        rgb = _from_deep_grey(image, depth)
    else:
        # From grey with premultiplied transparency Pillow only knows the way to the plain one.
        rgb = (image.convert("LA") if image.mode == "La" else image).convert("RGB")
    if image.format == "TIFF":  # Pillow turns these by itself
        turn = None if upright else _TURNS_BACK.get(number)
    else:
        turn = TURNS.get(number) if upright else None
    return rgb if turn is None else rgb.transpose(turn)


def conversions(image: Image.Image) -> tuple[str, ...]:
    """Name the changes that `to_rgb` makes to an image, before it is decoded. Raises as `to_rgb` does."""
    rows_of_16_bits = ";16" in str(image.tile[:1])  # Pillow keeps 8 of them, in modes such as RGB
    found = {
        "more than 8 bits a channel, of which 8 are read": _depth(image) > 8 or rows_of_16_bits,
        "transparency, which is left out": image.mode in _WITH_ALPHA or "transparency" in image.info,
        f"colours in {image.mode}, read as RGB": image.mode in _OTHER_COLOURS,
        "further frames or pages, of which the first is read": _has_further_frames(image),
    }
    return tuple(what for what, holds in found.items() if holds)


def find_oddities(image: Image.Image) -> tuple[str, ...]:
    """Name the `conversions` that an image needs, and its EXIF orientation, before it is decoded."""
    return conversions(image) + (("an EXIF orientation",) if orientation(image) > 1 else ())


def log_oddities(found: Tally, total: int) -> None:
    """Log how many images have what, each with an example."""
    for what, (count, path) in sorted(found.items()):
        _logger.info("%d of %d images have %s, such as %s", count, total, what, path)


def _has_further_frames(image: Image.Image) -> bool:
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # of any type, for damage behind the first frame, which is not read
        return True


def _depth(image: Image.Image) -> int:
    """Bits of a level: 8, or of deep grey 16 or 12. It is the file's, never guessed from the pixels."""
    allowed = "allowed: 8 or 16 bits a channel"
    depth = 16
    if image.format == "TIFF":
        tags, base = image.tag_v2, ExifTags.Base
        depth = tags.get(base.BitsPerSample, (1,))[0]
        if _SIGNED in tags.get(base.SampleFormat, ()):
            raise ValueError(f"its pixels are signed integers, of no known range; {allowed}")
        is_raw = image.tile and image.tile[0][0] == "raw"
        if depth > 8 and is_raw and tags.get(base.PlanarConfiguration) == _SEPARATE:
            raise ValueError(f"its colours are planes of {depth} bits; {allowed}, in one plane or compressed")
    if image.mode.startswith("I;16"):
        return depth
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # grey of 16 bits, in some versions of Pillow
        return 16
    if image.mode in ("I", "F"):
        kind = "integers of 32 bits" if image.mode == "I" else "floats"
        raise ValueError(f"its pixels are {kind}, of no known range; {allowed}")
    return 8


def _from_deep_grey(image: Image.Image, depth: int) -> Image.Image:
    # Without rounding, as Pillow reads colours of 16 bits: a level of 8 bits times 257 becomes that level.
    grey = (np.asarray(image) >> (depth - 8)).astype(np.uint8)  # (H, W)
    if image.format == "TIFF" and image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:
        grey = 255 - grey
    return Image.fromarray(grey).convert("RGB")
