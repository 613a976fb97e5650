"""From the configuration to the three loaders of a run: training, stage-1 cache, test."""

import dataclasses
import functools
import logging
import multiprocessing
import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import distributed
from torch.utils.data import DataLoader, Sampler
from torch.utils.data.distributed import DistributedSampler
from yacs.config import CfgNode

from datasets.augmentation import AugmentedSampler
from datasets.batch import LoadedBatch, collate
from datasets.cache import cache_images
from datasets.images import ImageDataset
from datasets.records import ImageRecord, ReIDDataset
from datasets.sampler import RandomIdentitySampler
from datasets.transforms import PixelTransform

_SAMPLERS = ("softmax", "softmax_triplet")
_MOST_WORKERS = 16  # of NUM_WORKERS -1: more would only take memory
_logger = logging.getLogger("transreid.datasets")


class Loaders(NamedTuple):
    """Loaders of `LoadedBatch`, which `to` makes a `Batch`. `train` augments and samples (call
    `train.sampler.set_epoch`), `cache` gives every training image once without augmentation (None for
    one-stage trees), `test` all records of the trials. `train` and `cache` are None when the data set was
    read without its training split.
    """

    train: DataLoader[LoadedBatch] | None
    cache: DataLoader[LoadedBatch] | None
    test: DataLoader[LoadedBatch]


def make_dataloader(cfg: CfgNode, dataset: ReIDDataset, *, size: tuple[int, int] | None = None) -> Loaders:
    """Build the loaders; `size` (H, W) replaces INPUT.SIZE_TEST.

    In a torch.distributed run, `train` gives this process's part of every batch. With DATALOADER.CACHE the
    training images are read here. Raises ValueError for another DATALOADER.SAMPLER, a batch size that
    training split or number of processes does not allow, or images that do not fit into memory.
    """
    pixels = PixelTransform(tuple(cfg.INPUT.PIXEL_MEAN), tuple(cfg.INPUT.PIXEL_STD))
    workers = num_workers(cfg.DATALOADER.NUM_WORKERS)
    rank, world_size = _rank_and_world_size()
    seed = cfg.SOLVER.SEED + rank

    def loader(
        images: ImageDataset,
        batch_size: int,
        sampler: AugmentedSampler | None = None,
        *,
        pixels: PixelTransform = pixels,
        persistent: bool = True,
    ) -> DataLoader[LoadedBatch]:
        return DataLoader(
            images,
            batch_size,
            sampler=sampler,
            # Identity batches are full by construction; a plain shuffle's last one could be a single image,
            # which BatchNorm cannot take.
            drop_last=sampler is not None and isinstance(sampler.sampler, DistributedSampler),
            num_workers=workers,
            persistent_workers=persistent and workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=functools.partial(collate, pixels=pixels),
            # A loader without a generator of its own would move the global one on, from which erasing draws.
            generator=torch.Generator().manual_seed(seed),
            multiprocessing_context=_fork() if images.cached is not None and workers else None,
        )

    train = cache = None
    if dataset.train:
        train_size = tuple(cfg.INPUT.SIZE_TRAIN)
        two_stages = "STAGE2" in cfg.SOLVER
        batch_size = cfg.SOLVER.STAGE2.IMS_PER_BATCH if two_stages else cfg.SOLVER.IMS_PER_BATCH
        sampler = AugmentedSampler(
            _train_sampler(cfg, dataset, batch_size, rank, world_size),
            flip_prob=cfg.INPUT.PROB,
            padding=cfg.INPUT.PADDING,
            seed=seed,
        )
        images = _training_images(cfg, dataset.train, train_size, workers)
        erased = dataclasses.replace(pixels, erase_prob=cfg.INPUT.RE_PROB)
        train = loader(images, batch_size // world_size, sampler, pixels=erased)
        if two_stages:
            plain = ImageDataset(dataset.train, train_size, interpolation="bilinear")
            # Used once, so its workers need not outlive the pass.
            cache = loader(plain, cfg.SOLVER.STAGE1.IMS_PER_BATCH, persistent=False)
    test_size = tuple(size or cfg.INPUT.SIZE_TEST)
    test_images = ImageDataset(dataset.test_records(), test_size, interpolation="bilinear")
    return Loaders(train, cache, loader(test_images, cfg.TEST.IMS_PER_BATCH))


def _training_images(
    cfg: CfgNode, records: Sequence[ImageRecord], size: tuple[int, int], workers: int
) -> ImageDataset:
    cached = None
    if cfg.DATALOADER.CACHE:
        cached = cache_images(records, size, interpolation="bicubic", workers=workers)
    return ImageDataset(records, size, interpolation="bicubic", padding=cfg.INPUT.PADDING, cached=cached)


def _train_sampler(
    cfg: CfgNode, dataset: ReIDDataset, batch_size: int, rank: int, world_size: int
) -> Sampler[int]:
    name, images = cfg.DATALOADER.SAMPLER, len(dataset.train)
    if name not in _SAMPLERS:
        raise ValueError(f"DATALOADER.SAMPLER {name!r}, allowed are {', '.join(_SAMPLERS)}")
    if batch_size < 1 or batch_size % world_size:
        raise ValueError(
            f"IMS_PER_BATCH {batch_size} with {world_size} processes, allowed are multiples of {world_size}"
        )
    if name == "softmax_triplet":
        pids = [record.pid for record in dataset.train]
        instances = cfg.DATALOADER.NUM_INSTANCE
        return RandomIdentitySampler(pids, batch_size, instances, cfg.SOLVER.SEED, rank, world_size)
    if images < batch_size:
        raise ValueError(f"{images} training images, IMS_PER_BATCH {batch_size} needs at least {batch_size}")
    return DistributedSampler(
        range(images), world_size, rank, shuffle=True, seed=cfg.SOLVER.SEED, drop_last=True
    )


def num_workers(wanted: int) -> int:
    """The number of processes that load images for DATALOADER.NUM_WORKERS `wanted`.

    -1 gives this process's share of the processors, 1 to 16; other numbers are capped to the processors.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if wanted < 0:
        # Set by torchrun: the processes of a torch.distributed run on this machine.
        share = available // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return min(max(share, 1), _MOST_WORKERS)
    if wanted > available:
        _logger.info("DATALOADER.NUM_WORKERS %d is capped to the %d processors here", wanted, available)
    return min(wanted, available)


def _fork() -> str | None:
    """How workers start that inherit the cached images without a copy; None where the system cannot."""
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else None


def _rank_and_world_size() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
