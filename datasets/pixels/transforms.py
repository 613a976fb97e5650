"""From pixels to the network's input: the whole test transform of an image, or the last steps of a batch."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision import transforms as T

from datasets.pixels.erasing import erase_constant


@dataclass(frozen=True)
class PixelTransform:
    """uint8 (B, 3, H, W) → float32, by the `mean` and `std` of R, G, B on the scale 0 to 1, then erased.

    It runs on the images' device, without waiting for a GPU, and gives the numbers of `test_transform`.
    Erasing (Zhong et al., AAAI 2020) comes after normalisation: with noise N(0, 1), or with the value that
    `erase_fill` has for each channel, both in the network's scale.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    erase_prob: float = 0.0
    erase_fill: tuple[float, ...] | None = None

    def __call__(self, images: Tensor, seeds: Sequence[int] = ()) -> Tensor:
        """The network's input (B, 3, H, W), contiguous.

        With erasing, image i is erased as drawn from `seeds[i]`; raises ValueError for another number of
        seeds.
        """
        pixels = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        mean, std = _channels(self.mean, pixels), _channels(self.std, pixels)
        levels = pixels.new_full((), 255)  # a tensor, since CUDA multiplies by the reciprocal of a number
        # A CPU takes one image through all steps while it is in its cache.
        size = len(images) if images.is_cuda else 1
        for source, part in zip(images.split(size), pixels.split(size), strict=True):
            part.copy_(source).div_(levels).sub_(mean).div_(std)
        if self.erase_prob > 0:
            self._erase_each(pixels, seeds)
        return pixels

    def _erase_each(self, pixels: Tensor, seeds: Sequence[int]) -> None:
        """Erase each image by its seed, independent of batch position and process."""
        if len(seeds) != len(pixels):
            raise ValueError(f"seeds has {len(seeds)} items; allowed: {len(pixels)}, one for each image")
        if self.erase_fill is None:
            _erase_with_noise(pixels, seeds, self.erase_prob)
            return
        fill = _channels(self.erase_fill, pixels)
        for image, seed in zip(pixels, seeds, strict=True):
            erase_constant(image, random.Random(seed), self.erase_prob, fill)


def _erase_with_noise(pixels: Tensor, seeds: Sequence[int], probability: float) -> None:
    erase = RandomErasing(probability, mode="pixel", max_count=1, device=pixels.device)
    # timm draws from the global generators, whose states are restored.
    on_gpu = pixels.is_cuda
    generator = torch.cuda.default_generators[pixels.device.index] if on_gpu else torch.default_generator
    states = random.getstate(), generator.get_state()
    for image, seed in zip(pixels, seeds, strict=True):
        random.seed(seed)
        generator.manual_seed(seed)
        erase(image)
    random.setstate(states[0])
    generator.set_state(states[1])


def _channels(values: Sequence[float], like: Tensor) -> Tensor:
    """(C, 1, 1), filled on the device: a copy from the host would wait for it."""
    return torch.stack([like.new_full((1, 1), value) for value in values])


def test_transform(
    size: tuple[int, int], mean: Sequence[float], std: Sequence[float], *, interpolation: str = "bilinear"
) -> Callable[[Image.Image], Tensor]:
    """RGB image → (3, H, W) for `size` (H, W): resize (PIL's is antialiased) and normalise.

    `interpolation` is 'bilinear' or 'bicubic'.
    """
    resize = T.Resize(size, T.InterpolationMode(interpolation))
    return T.Compose([resize, T.ToTensor(), T.Normalize(mean, std)])
