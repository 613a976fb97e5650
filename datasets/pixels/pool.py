"""The two augmentations of text search (TBPS-CLIP; Cao, Bai, Zeng, Ye, Zhang, AAAI 2024, section 3.2).

Operations on bytes, by Pillow through torchvision: rotation and changes of hue are several times faster there
than on tensors.
"""

import functools
from collections.abc import Callable

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import v2 as T

from datasets.pixels.resize import from_pil, resize_bilinear

_RADII = (0.1, 2.0)  # of the blur, pixels

Augmentation = Callable[[Tensor, int], Tensor]


class _Seeded:
    """uint8 (3, h, w) and a seed → uint8 (3, H, W) by `transform`, whose draws follow from the seed."""

    def __init__(self, transform: Callable[[Tensor], Image.Image]) -> None:
        self.transform = transform

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        # torchvision draws from the global generator, whose state is restored.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return from_pil(self.transform(image))


def pool_augmentation(size: tuple[int, int]) -> Augmentation:
    """uint8 (3, h, w) and a seed → uint8 (3, H, W): resized to `size`, then two operations of six.

    The second may be the first again, with other numbers.
    """
    resize = T.Lambda(functools.partial(resize_bilinear, size=size))
    pool = T.RandomChoice(
        [
            T.ColorJitter(brightness=0.1, contrast=0.1, saturation=0.1),
            T.RandomRotation(15),
            T.RandomResizedCrop(size, scale=(0.9, 1.0)),
            T.RandomGrayscale(0.1),
            T.RandomHorizontalFlip(0.5),
            T.RandomErasing(0.5, scale=(0.1, 0.2)),
        ]
    )
    return _Seeded(T.Compose([resize, T.ToPILImage(), pool, pool]))


def view_augmentation(size: tuple[int, int]) -> Augmentation:
    """uint8 (3, h, w) and a seed → uint8 (3, H, W): a view for self-supervision, as of SimCLR."""
    jitter = T.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    return _Seeded(
        T.Compose(
            [
                T.RandomResizedCrop(size, scale=(0.2, 1.0)),
                T.ToPILImage(),
                T.RandomApply([jitter], 0.8),
                T.RandomGrayscale(0.2),
                T.RandomApply([T.Lambda(_blur)], 0.5),
                T.RandomHorizontalFlip(0.5),
            ]
        )
    )


def _blur(picture: Image.Image) -> Image.Image:
    radius = torch.empty(()).uniform_(*_RADII).item()
    return picture.filter(ImageFilter.GaussianBlur(radius))
