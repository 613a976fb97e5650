"""From a record to a tensor; an image that cannot be read raises with its path."""

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
from utils.untrusted.pictures import is_small_jpeg, open_picture

_UNCHANGED = 0  # torchvision.io.ImageReadMode: as many channels as the file has


def read_image(path: str) -> Image.Image:
    """The image as RGB. Raises FileNotFoundError or ValueError with the path, as `open_picture` does."""
    with open_picture(path) as image:
        return image.convert("RGB")


def decode_image(path: str) -> Tensor:
    """The pixels of `read_image` as uint8 (3, H, W), JPEG files faster. Raises as `read_image` does."""
    # PIL reads files that torchvision does not, or names the damage. AttributeError: torchvision has no
    # decoders. ValueError: no path at all.
    with suppress(OSError, RuntimeError, AttributeError, ValueError), open(path, "rb", buffering=0) as file:
        data = bytearray(file.read())
        if is_small_jpeg(data):  # the operator takes memory for whatever size the header claims
            image = _decode_jpeg(torch.frombuffer(data, dtype=torch.uint8))
            if image.shape[0] != 4:  # grey or RGB, and not CMYK
                return image.expand(3, -1, -1)
    return from_pil(read_image(path))


def _decode_jpeg(data: Tensor) -> Tensor:
    # The operator behind torchvision.io.decode_jpeg, which from version 0.29 on warns at each call that
    # torchvision's decoders will go.
    return torch.ops.image.decode_jpeg(data, _UNCHANGED, False)


class ImageDataset(Dataset[tuple[Tensor, ImageRecord, int | None]]):
    """Records as items (image uint8 (3, H, W), record, seed of its draw), resized to `size` (H, W).

    `interpolation` is 'bilinear' or 'bicubic' (exact to PIL, for testing) or 'fast bicubic' (for training).
    A `Draw` as index gives the image flipped, padded by `padding` pixels and cropped as drawn; the seed of
    another index is None. `stand_ins` may give another record for one whose file cannot be read. With the
    resized images in `cached` (N, 3, H, W), set by `cache_images`, no file is read. Raises ValueError for
    another interpolation; items raise as `decode_image` does.
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
    ) -> None:
        if interpolation not in RESIZES:
            raise ValueError(f"interpolation is {interpolation!r}; allowed: {', '.join(RESIZES)}")
        self.records = records
        self.size = size
        self.resize = RESIZES[interpolation]
        self.padding = padding
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
