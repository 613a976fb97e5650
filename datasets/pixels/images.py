"""From a record to a tensor; an image that cannot be read raises with its path."""

import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
import torchvision  # noqa: F401 (registers torch.ops.image)
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datasets.pixels.augmentation import Draw, augment
from datasets.pixels.resize import RESIZES, from_pil
from datasets.pixels.stand_ins import StandIns
from datasets.records import ImageRecord

# Width times height that a header may claim: Pillow's Image.MAX_IMAGE_PIXELS, a quarter of a GiB as RGB.
# Pillow itself warns above it and refuses above twice as many.
MAX_PIXELS = 89_478_485
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_LAZY_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # to open them takes the header alone
# Among Pillow's other formats are some that run programs, such as Ghostscript for PostScript.
FORMATS = (*_LAZY_FORMATS, "PPM")
_JPEG_START = b"\xff\xd8\xff"
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of frame headers
_JPEG_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers that no length follows
_JPEG_SEGMENTS = 1000  # looked through for the frame header, which ordinary files have among the first thirty
_UNCHANGED = 0  # torchvision.io.ImageReadMode: as many channels as the file has

# Without a handler, what Pillow logs of an odd file would be printed.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_image(path: str) -> Image.Image:
    """The image as RGB. Raises FileNotFoundError or ValueError, both with the path, as `open_image` does."""
    with open_image(path) as image:
        return image.convert("RGB")


@contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """The opened image, whose pixels are decoded in the block, without a warning of Pillow's.

    Raises FileNotFoundError without the file. Raises ValueError for a file that is damaged or no image, shown
    here or in the block, and for one of more than `MAX_PIXELS`, before any pixel is decoded.
    """
    try:
        with _pillow_warnings, Image.open(path, formats=FORMATS) as image:
            _require_size(path, image.size)
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image file") from None
    except _BOMBS as error:
        _require_size(path, _claimed_size(path))
        raise ValueError(describe_damage(path, error)) from error
    except MemoryError:  # tells of this machine, not of the file
        raise
    except Exception as error:  # whatever else a decoder stumbles over is the file's fault
        raise ValueError(describe_damage(path, error)) from error


def decode_image(path: str) -> Tensor:
    """The pixels of `read_image` as uint8 (3, H, W), JPEG files faster. Raises as `read_image` does."""
    # PIL reads what torchvision does not, or says why not. AttributeError: torchvision has no decoders.
    # ValueError: no path at all.
    with suppress(OSError, RuntimeError, AttributeError, ValueError), open(path, "rb", buffering=0) as file:
        data = bytearray(file.read())
        # The operator takes memory for whatever size the header claims.
        if 0 < _jpeg_pixels(data) <= MAX_PIXELS:
            image = _decode_jpeg(torch.frombuffer(data, dtype=torch.uint8))
            if image.shape[0] != 4:  # grey or RGB, and not CMYK
                return image.expand(3, -1, -1)
    return from_pil(read_image(path))


def _decode_jpeg(data: Tensor) -> Tensor:
    # The operator behind torchvision.io.decode_jpeg, which from version 0.29 on warns at each call that
    # torchvision's decoders will go.
    return torch.ops.image.decode_jpeg(data, _UNCHANGED, False)


def _jpeg_pixels(data: bytearray) -> int:
    """Width times height in the frame header of a JPEG file; 0 where none is found in the ordinary way."""
    if not data.startswith(_JPEG_START):
        return 0
    place = 2
    for _ in range(_JPEG_SEGMENTS):
        if data[place : place + 2] == b"\xff\xff":  # a fill byte
            place += 1
            continue
        if place + 9 > len(data) or data[place] != 0xFF:
            return 0
        marker = data[place + 1]
        if marker in _JPEG_SIZES:
            height, width = (int.from_bytes(data[place + at : place + at + 2], "big") for at in (5, 7))
            return height * width
        if marker in _JPEG_BARE:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return 0


def _require_size(path: str, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        told = f"its header says {size[0]} x {size[1]} pixels; allowed: at most {MAX_PIXELS:,} in all"
        raise ValueError(describe_damage(path, ValueError(told)))


def _claimed_size(path: str) -> tuple[int, int]:
    """Width and height of a file that Pillow refuses without telling them; (0, 0) for rare formats."""
    with _pillow_warnings, _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with Image.open(path, formats=_LAZY_FORMATS) as image:
                return image.size
        except Exception:  # a format of other names, or one that this Pillow lacks
            return 0, 0
        finally:
            Image.MAX_IMAGE_PIXELS = limit


class _PillowWarnings:
    """While any thread is inside, warnings are ignored, but for that of too large an image, which is raised.

    `warnings.catch_warnings` alone, used by threads at the same time, can leave the filters changed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._former = warnings.catch_warnings()
                self._former.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._former.__exit__(None, None, None)


_pillow_warnings = _PillowWarnings()
_pillow_limit = threading.Lock()


def describe_damage(path: str, error: BaseException) -> str:
    """One line that names the file and what the decoder said."""
    return f"{path}: cannot be read as an image: {' '.join(str(error).split()) or type(error).__name__}"


class ImageDataset(Dataset[tuple[Tensor, ImageRecord, int | None]]):
    """Records as items (image uint8 (3, H, W), record, seed of its draw), resized to `size` (H, W).

    `interpolation` is 'bilinear' or 'bicubic' (exact to PIL, for testing) or 'fast bicubic' (for training).
    A `Draw` as index gives the image flipped, padded by `padding` pixels and cropped as drawn; the seed of
    another index is None. With the resized images in `cached` (N, 3, H, W) no file is read. `stand_ins` may
    give another record for one whose file cannot be read. Raises ValueError for another interpolation; items
    raise as `decode_image` does.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        size: tuple[int, int],
        *,
        interpolation: str,
        padding: int = 0,
        cached: Tensor | None = None,
        stand_ins: StandIns | None = None,
    ) -> None:
        if interpolation not in RESIZES:
            raise ValueError(f"interpolation {interpolation!r}, allowed are {', '.join(RESIZES)}")
        self.records = records
        self.size = size
        self.resize = RESIZES[interpolation]
        self.padding = padding
        self.cached = cached
        self.stand_ins = stand_ins

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, ImageRecord, int | None]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Draw]) -> list[tuple[Tensor, ImageRecord, int | None]]:
        """The items of a batch, step by step: decoding and resizing in turns takes a sixth more time."""
        indices = [key.index if isinstance(key, Draw) else key for key in keys]
        if self.cached is None:
            decoded = [self._decode(index) for index in indices]
            images = [self.resize(image, self.size) for image, _ in decoded]
            records = [record for _, record in decoded]
        else:
            images = [self.cached[index] for index in indices]
            records = [self.records[index] for index in indices]
        return [
            (augment(image, key, self.padding), record, key.seed)
            if isinstance(key, Draw)
            else (image, record, None)
            for image, key, record in zip(images, keys, records, strict=True)
        ]

    def _decode(self, index: int) -> tuple[Tensor, ImageRecord]:
        if self.stand_ins is not None:
            return self.stand_ins.decode(index, decode_image)
        record = self.records[index]
        return decode_image(record.path), record
