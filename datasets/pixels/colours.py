"""HSV colour histograms of horizontal stripes: features of images that need no training."""

import numpy as np
from numpy.typing import NDArray

from datasets.pixels.images import read_image

STRIPES = 6
BINS = (16, 4, 4)  # hue, saturation, value
_AT_A_TIME = 1 << 16  # pixels converted to HSV, which takes about 100 bytes for each


def colour_histogram(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Feature (STRIPES * 256,) of an RGB image (H, W, 3): square roots of each stripe's HSV histogram.

    With the roots, Euclidean distance is Hellinger's distance of histograms. H is STRIPES or more.
    """
    from skimage.color import rgb2hsv

    histograms = []
    for stripe in np.array_split(image, STRIPES):
        pixels, counts = stripe.reshape(-1, 3), np.zeros(BINS)
        for start in range(0, len(pixels), _AT_A_TIME):
            colours = rgb2hsv(pixels[start : start + _AT_A_TIME])
            counts += np.histogramdd(colours, BINS, range=((0, 1),) * 3)[0]
        histograms.append(np.sqrt(counts.ravel() / len(pixels)))
    return np.concatenate(histograms).astype(np.float32)


def colours_of(path: str, *, upright: bool) -> NDArray[np.float32]:
    """The `colour_histogram` of the image at `path`, read as `read_image` does.

    Raises ValueError for an image that is lower than it has stripes, and as `read_image` does.
    """
    image = np.asarray(read_image(path, upright=upright))
    if len(image) < STRIPES:
        raise ValueError(f"{path}: {len(image)} pixels high; allowed: {STRIPES} or more")
    return colour_histogram(image)
