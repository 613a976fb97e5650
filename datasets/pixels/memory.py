"""Training images kept in memory."""

import copy
import logging
from concurrent.futures import ThreadPoolExecutor

import psutil
import torch
from tqdm import tqdm

from datasets.pixels.images import ImageDataset

_GB = 1e9
_logger = logging.getLogger("transreid.datasets")


def cache_images(data: ImageDataset, *, workers: int) -> ImageDataset:
    """The data set with all its images in memory, read by `workers` threads (0: one).

    Raises ValueError before it reads if they need more memory than is available, and as items of the data set
    do.
    """
    shape = len(data), *data.size, 3
    need, available = torch.Size(shape).numel(), psutil.virtual_memory().available
    summary = (
        f"{len(data)} training images of {data.size[0]}x{data.size[1]} take {need / _GB:.3g} GB of memory"
    )
    if need > available:
        raise ValueError(f"cache is True: {summary}, available are {available / _GB:.3g} GB; allowed: False")
    _logger.info("%s", summary)
    images = torch.empty(shape, dtype=torch.uint8).permute(0, 3, 1, 2)
    records = list(data.records)

    def fill(index: int) -> None:
        images[index], records[index], _ = data[index]

    pool = ThreadPoolExecutor(max(workers, 1))
    try:
        filled = pool.map(fill, range(len(data)))
        list(tqdm(filled, "cache images", len(data), leave=False, disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # an error or an interruption does not read the rest first
    cached = copy.copy(data)
    cached.records, cached.cached = records, images
    return cached
