"""From a record to a tensor; an image that cannot be read raises with its path."""

from collections.abc import Sequence
from contextlib import suppress

import torch
import torchvision  # noqa: F401 (registers torch.ops.image)
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datasets.augmentation import Draw, augment
from datasets.records import ImageRecord
from datasets.resize import RESIZES, from_pil

# What Pillow's decoders raise on damaged files; MemoryError is not among them on purpose.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, Image.DecompressionBombError)
_JPEG_START = b"\xff\xd8\xff"
_UNCHANGED = 0  # torchvision.io.ImageReadMode: as many channels as the file has


def read_image(path: str) -> Image.Image:
    """The image as RGB. Raises FileNotFoundError or, for a damaged file, ValueError; both name the path."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image file") from None
    except DECODE_ERRORS as error:
        raise ValueError(describe_damage(path, error)) from error


def decode_image(path: str) -> Tensor:
    """The pixels of `read_image` as uint8 (3, H, W), JPEG files faster. Raises as `read_image` does."""
    # PIL reads what torchvision does not, or says why not. AttributeError: torchvision has no decoders.
    with suppress(OSError, RuntimeError, AttributeError), open(path, "rb", buffering=0) as file:
        data = bytearray(file.read())
        if data.startswith(_JPEG_START):
            image = _decode_jpeg(torch.frombuffer(data, dtype=torch.uint8))
            if image.shape[0] != 4:  # grey or RGB, and not CMYK
                return image.expand(3, -1, -1)
    return from_pil(read_image(path))


def _decode_jpeg(data: Tensor) -> Tensor:
    # The operator behind torchvision.io.decode_jpeg, which from version 0.29 on warns at each call that
    # torchvision's decoders will go.
    return torch.ops.image.decode_jpeg(data, _UNCHANGED, False)


def describe_damage(path: str, error: BaseException) -> str:
    """One line that names the file and what the decoder said."""
    return f"{path}: cannot be read as an image: {' '.join(str(error).split()) or type(error).__name__}"


class ImageDataset(Dataset[tuple[Tensor, ImageRecord]]):
    """Records as items (image uint8 (3, H, W), record), resized to `size` (H, W).

    `interpolation` is 'bilinear' (exact to PIL, for testing) or 'bicubic' (for training). A `Draw` as index
    gives the image flipped, padded by `padding` pixels and cropped as drawn. With the resized images in
    `cached` (N, 3, H, W) no file is read. Raises ValueError for another interpolation; items raise as
    `decode_image` does.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        size: tuple[int, int],
        *,
        interpolation: str,
        padding: int = 0,
        cached: Tensor | None = None,
    ) -> None:
        if interpolation not in RESIZES:
            raise ValueError(f"interpolation {interpolation!r}, allowed are {', '.join(RESIZES)}")
        self.records = records
        self.size = size
        self.resize = RESIZES[interpolation]
        self.padding = padding
        self.cached = cached

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, ImageRecord]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Draw]) -> list[tuple[Tensor, ImageRecord]]:
        """The items of a batch, step by step: decoding and resizing in turns takes a sixth more time."""
        indices = [key.index if isinstance(key, Draw) else key for key in keys]
        records = [self.records[index] for index in indices]
        if self.cached is None:
            decoded = [decode_image(record.path) for record in records]
            images = [self.resize(image, self.size) for image in decoded]
        else:
            images = [self.cached[index] for index in indices]
        items = zip(images, keys, records, strict=True)
        return [
            (augment(image, key, self.padding) if isinstance(key, Draw) else image, record)
            for image, key, record in items
        ]
