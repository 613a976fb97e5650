"""From the configuration to the three loaders of a run: training, stage-1 cache, test."""

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import distributed
from torch.utils.data import DataLoader, Sampler
from torch.utils.data.distributed import DistributedSampler
from yacs.config import CfgNode

from datasets.batch import Batch, collate
from datasets.images import ImageDataset
from datasets.records import ImageRecord, ReIDDataset
from datasets.sampler import RandomIdentitySampler
from datasets.transforms import Transform, test_transform, train_transform

_SAMPLERS = ("softmax", "softmax_triplet")
_logger = logging.getLogger("transreid.datasets")


class Loaders(NamedTuple):
    """Loaders of `Batch`. `train` augments and samples (call `train.sampler.set_epoch`), `cache` gives every
    training image once without augmentation (None for one-stage trees), `test` all records of the trials.
    `train` and `cache` are None when the data set was read without its training split.
    """

    train: DataLoader[Batch] | None
    cache: DataLoader[Batch] | None
    test: DataLoader[Batch]


def make_dataloader(cfg: CfgNode, dataset: ReIDDataset, *, size: tuple[int, int] | None = None) -> Loaders:
    """Build the loaders; `size` (H, W) replaces INPUT.SIZE_TEST.

    In a torch.distributed run, `train` gives this process's part of every batch. Raises ValueError for
    another DATALOADER.SAMPLER, or a batch size that training split or number of processes does not allow.
    """
    mean, std = cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD
    workers = _num_workers(cfg.DATALOADER.NUM_WORKERS)
    rank, world_size = _rank_and_world_size()
    seed = cfg.SOLVER.SEED + rank

    def loader(
        records: Sequence[ImageRecord],
        transform: Transform,
        batch_size: int,
        sampler: Sampler[int] | None = None,
        *,
        persistent: bool = True,
    ) -> DataLoader[Batch]:
        return DataLoader(
            ImageDataset(records, transform),
            batch_size,
            sampler=sampler,
            # Identity batches are full by construction; a plain shuffle's last one could be a single image,
            # which BatchNorm cannot take.
            drop_last=isinstance(sampler, DistributedSampler),
            num_workers=workers,
            persistent_workers=persistent and workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
            generator=torch.Generator().manual_seed(seed),
        )

    train = cache = None
    if dataset.train:
        train_size = tuple(cfg.INPUT.SIZE_TRAIN)
        augment = train_transform(
            train_size,
            mean,
            std,
            flip_prob=cfg.INPUT.PROB,
            padding=cfg.INPUT.PADDING,
            erase_prob=cfg.INPUT.RE_PROB,
        )
        two_stages = "STAGE2" in cfg.SOLVER
        batch_size = cfg.SOLVER.STAGE2.IMS_PER_BATCH if two_stages else cfg.SOLVER.IMS_PER_BATCH
        sampler = _train_sampler(cfg, dataset, batch_size, rank, world_size)
        train = loader(dataset.train, augment, batch_size // world_size, sampler)
        if two_stages:
            plain = test_transform(train_size, mean, std)
            # Used once, so its workers need not outlive the pass.
            cache = loader(dataset.train, plain, cfg.SOLVER.STAGE1.IMS_PER_BATCH, persistent=False)
    test_size = tuple(size or cfg.INPUT.SIZE_TEST)
    test = loader(dataset.test_records(), test_transform(test_size, mean, std), cfg.TEST.IMS_PER_BATCH)
    return Loaders(train, cache, test)


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


def _num_workers(wanted: int) -> int:
    available = os.cpu_count() or 1
    if wanted > available:
        _logger.info("DATALOADER.NUM_WORKERS %d is capped to the %d processors here", wanted, available)
    return min(wanted, available)


def _rank_and_world_size() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
