"""From a record to a tensor; an image that cannot be read raises with its path."""

from collections.abc import Callable, Sequence

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datasets.records import ImageRecord

# What Pillow's decoders raise on damaged files; MemoryError is not among them on purpose.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, Image.DecompressionBombError)


def read_image(path: str) -> Image.Image:
    """The image as RGB. Raises FileNotFoundError or, for a damaged file, ValueError; both name the path."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image file") from None
    except DECODE_ERRORS as error:
        raise ValueError(describe_damage(path, error)) from error


def describe_damage(path: str, error: BaseException) -> str:
    """One line that names the file and what the decoder said."""
    return f"{path}: cannot be read as an image: {' '.join(str(error).split()) or type(error).__name__}"


class ImageDataset(Dataset[tuple[Tensor, ImageRecord]]):
    """Records as items (image (3, H, W), record). Raises as `read_image` does."""

    def __init__(self, records: Sequence[ImageRecord], transform: Callable[[Image.Image], Tensor]) -> None:
        self.records = records
        self.transform = transform

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, ImageRecord]:
        record = self.records[index]
        return self.transform(read_image(record.path)), record
