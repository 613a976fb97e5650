"""From a record to a tensor; an image that cannot be read raises with its path."""

import functools
from collections.abc import Sequence
from contextlib import suppress

import torch
import torchvision  # noqa: F401 (registers torch.ops.image)
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datasets.pixels.augmentation import Draw, augment
from datasets.pixels.resize import RESIZES, from_pil
from datasets.pixels.stand_ins import StandIns
from datasets.records import ImageRecord
from utils.modes import TURNS, to_rgb
from utils.untrusted.pictures import is_small_jpeg, may_be_turned, open_picture, orientation, read_picture

_UNCHANGED = 0  # torchvision.io.ImageReadMode: as many channels as the file has


def read_image(path: str, *, upright: bool = False) -> Image.Image:
    """The image as RGB: see `to_rgb`.

    Raises FileNotFoundError or ValueError with the path, as `open_picture` does.
    """
    with open_picture(path) as image:
        return to_rgb(image, upright=upright)


def decode_image(path: str, *, upright: bool = False, data: bytes | None = None) -> Tensor:
    """The pixels of `read_image` as uint8 (3, H, W), JPEG files faster. Raises as `read_image` does.

    `data` are the file's bytes where they have been read.
    """
    if data is None:
        data = read_picture(path)
    if is_small_jpeg(data):  # the operator takes memory for whatever size the header claims
        number = 1
        if upright and may_be_turned(data):
            with open_picture(path, data) as picture:
                number = orientation(picture)
        # PIL reads files that torchvision does not, or names the damage. AttributeError: torchvision has no
        # decoders.
        with suppress(RuntimeError, AttributeError):
            image = _decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            if image.shape[0] != 4:  # grey or RGB, and not CMYK
                image = image.expand(3, -1, -1)
                if number == 1:
                    return image
                return from_pil(Image.fromarray(image.permute(1, 2, 0).numpy()).transpose(TURNS[number]))
    with open_picture(path, data) as picture:
        return from_pil(to_rgb(picture, upright=upright))


def _decode_jpeg(data: Tensor) -> Tensor:
    # The operator behind torchvision.io.decode_jpeg, which from version 0.29 on warns at each call that
    # torchvision's decoders will go.
    return torch.ops.image.decode_jpeg(data, _UNCHANGED, False)


class ImageDataset(Dataset[tuple[Tensor, ImageRecord, int | None]]):
    """Records as items (image uint8 (3, H, W), record, seed of its draw), resized to `size` (H, W).

    `interpolation` is 'bilinear' or 'bicubic' (exact to PIL, for testing) or 'fast bicubic' (for training).
    A `Draw` as index gives the image flipped, padded by `padding` pixels and cropped as drawn; the seed of
    another index is None. `stand_ins` may give another record for one whose file cannot be read. With the
    resized images in `cached` (N, 3, H, W), set by `cache_images`, no file is read. With `upright` images are
    turned as their EXIF orientation says. Raises ValueError for another interpolation; items raise as
    `decode_image` does.
    """

    cached: Tensor | None = None

    def __init__(
        self,
        records: Sequence[ImageRecord],
        size: tuple[int, int],
        *,
        interpolation: str,
        padding: int = 0,
        stand_ins: StandIns | None = None,
        upright: bool = False,
    ) -> None:
        if interpolation not in RESIZES:
            raise ValueError(f"interpolation is {interpolation!r}; allowed: {', '.join(RESIZES)}")
        self.records = records
        self.size = size
        self.resize = RESIZES[interpolation]
        self.padding = padding
        self.stand_ins = stand_ins
        self.upright = upright

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
        decode = functools.partial(decode_image, upright=self.upright)
        if self.stand_ins is not None:
            return self.stand_ins.decode(index, decode)
        record = self.records[index]
        return decode(record.path), record
