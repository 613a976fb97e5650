"""Training images kept in memory."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.pixels.images import ImageDataset
from datasets.records import ImageRecord

_GB = 1e9
_logger = logging.getLogger("transreid.datasets")


def cache_images(data: ImageDataset, *, workers: int) -> tuple[Tensor, list[ImageRecord]]:
    """All images of a data set, uint8 (N, 3, H, W), and their records, read by `workers` threads (0: one).

    Logs what they take before they take it. Raises ValueError where less memory is available, and as items of
    the data set do.
    """
    shape = len(data), *data.size, 3
    need, available = torch.Size(shape).numel(), available_memory()
    what = f"{len(data)} training images of {data.size[0]}x{data.size[1]} take {need / _GB:.3g} GB"
    _logger.info("DATALOADER.CACHE: %s", what)
    if need > available:
        raise ValueError(
            f"DATALOADER.CACHE is True: {what}, available are {available / _GB:.3g} GB; allowed: False"
        )
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
    return images, records


def available_memory() -> int:
    """Bytes that are free or can be freed, as Linux and a container's limit say; elsewhere the machine's."""
    limit, meminfo = Path("/sys/fs/cgroup/memory.max"), Path("/proc/meminfo")
    most = limit.read_text().strip() if limit.exists() else "max"
    for line in meminfo.read_text().splitlines() if meminfo.exists() else []:
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
            return available if most == "max" else min(available, int(most))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
