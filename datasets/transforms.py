"""Image transforms of CLIP-ReID, exact to PIL: training resizes bicubic, testing bilinear (as published)."""

from collections.abc import Callable, Sequence

from PIL import Image
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision import transforms as T

Transform = Callable[[Image.Image], Tensor]


def train_transform(
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    flip_prob: float,
    padding: int,
    erase_prob: float,
) -> Transform:
    """RGB image → (3, H, W) for `size` (H, W): resize, flip, zero pad and crop, normalise, erase.

    Erasing (Zhong et al., AAAI 2020) comes after normalisation: its noise is N(0, 1) in the network's scale.
    """
    return T.Compose(
        [
            T.Resize(size, T.InterpolationMode.BICUBIC),
            T.RandomHorizontalFlip(flip_prob),
            T.Pad(padding),
            T.RandomCrop(size),
            T.ToTensor(),
            T.Normalize(mean, std),
            RandomErasing(erase_prob, mode="pixel", max_count=1, device="cpu"),
        ]
    )


def test_transform(size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> Transform:
    """RGB image → (3, H, W) for `size` (H, W): resize bilinear (PIL's is antialiased) and normalise."""
    return T.Compose([T.Resize(size, T.InterpolationMode.BILINEAR), T.ToTensor(), T.Normalize(mean, std)])
