"""From the configuration to the three loaders of a run: training, plain pass over its images, test."""

import dataclasses
import functools
import logging
import multiprocessing
import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from yacs.config import CfgNode

from datasets.batch import LoadedBatch, collate
from datasets.pixels.augmentation import AugmentedSampler
from datasets.pixels.images import ImageDataset
from datasets.pixels.memory import cache_images
from datasets.pixels.stand_ins import StandIns
from datasets.pixels.transforms import PixelTransform
from datasets.records import ImageRecord, ReIDDataset
from datasets.sampling.epoch_batches import EpochBatches
from datasets.sampling.identity import RandomIdentitySampler, RepeatedSampler
from utils.distributed import rank, share, world_size
from utils.signals import leave_signals_to_parent

_SAMPLERS = ("softmax", "softmax_triplet")
_MOST_WORKERS = 16  # of NUM_WORKERS -1: more would only take memory
_logger = logging.getLogger("transreid.datasets")


class Loaders(NamedTuple):
    """Loaders of `LoadedBatch`, which `to` makes a `Batch`. `train` augments and samples (call
    `train.batch_sampler.set_epoch`), `cache` gives every training image once without augmentation (None where
    nothing is made of them: in one-stage trees without prototypes and clusters), `test` all records of the
    trials. `train` and `cache` are None when the data set was read without its training split.
    """

    train: DataLoader[LoadedBatch] | None
    cache: DataLoader[LoadedBatch] | None
    test: DataLoader[LoadedBatch]


def make_dataloader(cfg: CfgNode, dataset: ReIDDataset, *, size: tuple[int, int] | None = None) -> Loaders:
    """Build the loaders; `size` (H, W) replaces INPUT.SIZE_TEST.

    In a torch.distributed run, `train` gives this process's share of every batch, `cache` and `test` its
    share of the records. With DATALOADER.CACHE the training images are read here. Raises ValueError for
    another DATALOADER.SAMPLER, a batch size that training split or number of processes does not allow, or
    images that do not fit into memory.
    """
    pixels = PixelTransform(tuple(cfg.INPUT.PIXEL_MEAN), tuple(cfg.INPUT.PIXEL_STD))
    loader = functools.partial(
        _make_loader, workers=num_workers(cfg.DATALOADER.NUM_WORKERS), seed=cfg.SOLVER.SEED
    )
    train = cache = None
    if dataset.train:
        two_stages = "STAGE2" in cfg.SOLVER
        solver = cfg.SOLVER.STAGE2 if two_stages else cfg.SOLVER
        order = _order(cfg, dataset.train, solver.IMS_PER_BATCH)
        batches = _train_batches(cfg, order, solver)
        stand_ins = StandIns(dataset.train) if cfg.DATALOADER.ON_ERROR == "skip" else None
        fill = pixels.mean if cfg.INPUT.RE_MODE == "constant" else None
        erased = dataclasses.replace(pixels, erase_prob=cfg.INPUT.RE_PROB, erase_fill=fill)
        train = loader(_training_images(cfg, dataset.train, stand_ins), erased, batch_sampler=batches)
        if two_stages or cfg.MODEL.PCL_LOSS_WEIGHT > 0 or cfg.CLUSTER.METHOD != "none":
            plain = ImageDataset(
                dataset.train,
                tuple(cfg.INPUT.SIZE_TRAIN),
                interpolation=cfg.INPUT.TEST_RESIZE,
                stand_ins=stand_ins,
            )
            plain_size = cfg.SOLVER.STAGE1.IMS_PER_BATCH if two_stages else cfg.TEST.IMS_PER_BATCH
            # Used once or once an epoch, so its workers need not outlive a pass.
            cache = loader(plain, pixels, batch_size=plain_size, persistent=False)
    test_size = tuple(size or cfg.INPUT.SIZE_TEST)
    test_images = ImageDataset(dataset.test_records(), test_size, interpolation=cfg.INPUT.TEST_RESIZE)
    test = loader(test_images, pixels, batch_size=cfg.TEST.IMS_PER_BATCH)
    return Loaders(train, cache, test)


def _make_loader(
    images: ImageDataset,
    pixels: PixelTransform,
    *,
    batch_sampler: EpochBatches | None = None,
    batch_size: int = 1,
    persistent: bool = True,
    workers: int,
    seed: int,
) -> DataLoader[LoadedBatch]:
    """By a batch sampler, or this process's share of the images in batches of a size."""
    if batch_sampler is not None:
        order = {"batch_sampler": batch_sampler}
    else:
        order = {"batch_size": batch_size, "sampler": share(len(images))}
    return DataLoader(
        images,
        **order,
        num_workers=workers,
        persistent_workers=persistent and workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=functools.partial(collate, pixels=pixels),
        worker_init_fn=leave_signals_to_parent,
        # A loader without a generator of its own would move the global one on.
        generator=torch.Generator().manual_seed(seed),
        multiprocessing_context=_fork() if images.cached is not None and workers else None,
    )


def _training_images(
    cfg: CfgNode, records: Sequence[ImageRecord], stand_ins: StandIns | None
) -> ImageDataset:
    size, workers = tuple(cfg.INPUT.SIZE_TRAIN), num_workers(cfg.DATALOADER.NUM_WORKERS)
    cached = None
    images = ImageDataset(records, size, interpolation="fast bicubic", stand_ins=stand_ins)
    if cfg.DATALOADER.CACHE:
        cached, records = cache_images(images, workers=workers)
    return ImageDataset(
        records,
        size,
        interpolation="fast bicubic",
        padding=cfg.INPUT.PADDING,
        cached=cached,
        stand_ins=stand_ins,
    )


_Order = RandomIdentitySampler | DistributedSampler


def _order(cfg: CfgNode, records: Sequence[ImageRecord], batch_size: int) -> _Order:
    """In which order images are trained on in an epoch, or in a pass of it."""
    name, group, seed = cfg.DATALOADER.SAMPLER, cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.SEED
    images = len(records)
    if name not in _SAMPLERS:
        raise ValueError(f"DATALOADER.SAMPLER {name!r}, allowed are {', '.join(_SAMPLERS)}")
    if name == "softmax_triplet":
        if cfg.CLUSTER.METHOD == "none":
            return RandomIdentitySampler([record.pid for record in records], batch_size, group, seed)
        if images * group < batch_size:
            raise ValueError(
                f"{images} training images, IMS_PER_BATCH {batch_size} with {group} images of a cluster needs"
                f" at least {batch_size // group}"
            )
        # No identity is known: each image is one of its own until the first clustering.
        return RandomIdentitySampler(range(images), batch_size, group, seed)
    if images < batch_size:
        raise ValueError(f"{images} training images, IMS_PER_BATCH {batch_size} needs at least {batch_size}")
    # torch's sampler that shuffles by a seed and an epoch, for one process
    return DistributedSampler(range(images), 1, 0, shuffle=True, seed=seed)


def _train_batches(cfg: CfgNode, order: _Order, solver: CfgNode) -> EpochBatches:
    """Batches of the main stage, whose node of keys is `solver`."""
    group = cfg.DATALOADER.NUM_INSTANCE if isinstance(order, RandomIdentitySampler) else 1
    batch_size = solver.IMS_PER_BATCH
    indices = order if solver.ITERS < 0 else RepeatedSampler(order, solver.ITERS * batch_size)
    draws = AugmentedSampler(indices, cfg.INPUT.PROB, cfg.INPUT.PADDING, cfg.SOLVER.SEED)
    return EpochBatches(draws, batch_size, group=group, rank=rank(), world_size=world_size())


def available_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_workers(wanted: int) -> int:
    """The number of processes that load images for DATALOADER.NUM_WORKERS `wanted`.

    -1 gives this process's share of the processors, 1 to 16; other numbers are capped to the processors.
    """
    available = available_processors()
    if wanted < 0:
        # Set by torchrun: the processes of a torch.distributed run on this machine.
        own = available // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return min(max(own, 1), _MOST_WORKERS)
    if wanted > available:
        _logger.info("DATALOADER.NUM_WORKERS %d is capped to the %d processors here", wanted, available)
    return min(wanted, available)


def _fork() -> str | None:
    """How workers start that inherit the cached images without a copy; None where the system cannot."""
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else None
