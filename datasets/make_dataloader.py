"""From the configuration to the loaders of a run: training, a plain pass over its images, test."""

import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler
from yacs.config import CfgNode

from config.errors import as_keys
from config.nodes import main_solver
from datasets.batch import LoadedBatch, collate
from datasets.captions import describe_images, read_captions
from datasets.pixels.augmentation import AugmentedSampler
from datasets.pixels.images import ImageDataset
from datasets.pixels.memory import cache_images
from datasets.pixels.stand_ins import StandIns
from datasets.pixels.transforms import PixelTransform
from datasets.records import ImageRecord, ReIDDataset
from datasets.sampling.epoch_batches import Draws, EpochBatches
from datasets.sampling.graph import GraphSampler
from datasets.sampling.identity import RandomIdentitySampler
from datasets.sampling.repeated import RepeatedSampler
from datasets.sources import CAPTIONS, fetch_missing, naming_download
from utils.data_sources import DATA_SOURCES
from utils.distributed import rank, share, world_size
from utils.limits import allowed_workers, available_processors, usual_workers
from utils.signals import leave_signals_to_parent

_SAMPLERS = ("softmax", "softmax_triplet", "graph")
_KEYS = {
    "batch_size": "IMS_PER_BATCH",
    "num_instances": "DATALOADER.NUM_INSTANCE",
    "cache": "DATALOADER.CACHE",
    "interpolation": "INPUT.TEST_RESIZE",
}
_logger = logging.getLogger("transreid.datasets")

Order = RandomIdentitySampler | GraphSampler | DistributedSampler


@dataclass(frozen=True)
class DescribedImages:
    """Captions of training images by their keys, and a loader of these images.

    `loader` gives full batches, augmented and shuffled as `Loaders.train` but erased half as often; None
    where no stage trains on them.
    """

    captions: dict[str, list[str]]
    loader: DataLoader[LoadedBatch] | None


@dataclass(frozen=True)
class Loaders:
    """Loaders of `LoadedBatch`, which `to` makes an `ImageBatch`.

    Args:
        train: augments and samples; call `train.batch_sampler.set_epoch` before each epoch.
        plain: every training image once, without augmentation.
        shuffled: full batches of those images, in an order by `shuffled.batch_sampler.set_epoch` as `train`.
        test: all records of the trials.
        order: the sampler of the training images. A RandomIdentitySampler takes other identities of them, a
            GraphSampler features of the identities.
        described: training images with captions, None where DATASETS.CAPTIONS names none.

    `shuffled` is None unless it was asked for; `train`, `plain` and `order` are None when the data set was
    read without its training split.
    """

    train: DataLoader[LoadedBatch] | None
    plain: DataLoader[LoadedBatch] | None
    test: DataLoader[LoadedBatch]
    order: Order | None
    shuffled: DataLoader[LoadedBatch] | None = None
    described: DescribedImages | None = None


def make_dataloader(
    cfg: CfgNode,
    dataset: ReIDDataset,
    *,
    size: tuple[int, int] | None = None,
    plain_batch: int | None = None,
    shuffle: bool = False,
    labelled: bool = True,
) -> Loaders:
    """Build the loaders.

    `size` (H, W) replaces INPUT.SIZE_TEST, `plain_batch` is the batch size of `plain` (default
    TEST.IMS_PER_BATCH); `shuffle` asks for `shuffled`, with that batch size. Without `labelled` no identity
    is known: each training image is one of its own until `order` gets others. In a torch.distributed run,
    `train` and `shuffled` give this process's share of every batch, `plain` and `test` its share of the
    records. With DATALOADER.CACHE the training images are read here.
    Raises ValueError for another DATALOADER.SAMPLER, a batch size that training split or number of processes
    does not allow, or images that do not fit into memory.
    """
    with as_keys(_KEYS):
        workers, interpolation = num_workers(cfg.DATALOADER.NUM_WORKERS), cfg.INPUT.TEST_RESIZE
        pixels = PixelTransform(tuple(cfg.INPUT.PIXEL_MEAN), tuple(cfg.INPUT.PIXEL_STD))
        loader = functools.partial(_image_loader, workers=workers, seed=cfg.SOLVER.SEED)
        test_size = tuple(size or cfg.INPUT.SIZE_TEST)
        images_of = functools.partial(ImageDataset, upright=dataset.upright)
        test_images = images_of(dataset.test_records(), test_size, interpolation=interpolation)
        test = loader(test_images, pixels, batch_size=cfg.TEST.IMS_PER_BATCH)
        if not dataset.train:
            return Loaders(None, None, test, None)
        order = _order(cfg, dataset.train, labelled)
        batches = _train_batches(cfg, order)
        stand_ins = StandIns(dataset.train) if cfg.DATALOADER.ON_ERROR == "skip" else None
        images = _training_images(cfg, dataset, stand_ins, workers)
        train = loader(images, _erasing(cfg, pixels, cfg.INPUT.RE_PROB), batch_sampler=batches)
        plain_images = images_of(
            dataset.train, tuple(cfg.INPUT.SIZE_TRAIN), interpolation=interpolation, stand_ins=stand_ins
        )
        # Used once or once an epoch, so its workers need not outlive a pass.
        plain_size = plain_batch or cfg.TEST.IMS_PER_BATCH
        plain = loader(plain_images, pixels, batch_size=plain_size, persistent_workers=False)
        shuffled = None
        if shuffle:
            with as_keys({"batch_size": "SOLVER.STAGE1.IMS_PER_BATCH"}):
                batches = _in_batches(_shuffled(len(dataset.train), plain_size, cfg.SOLVER.SEED), plain_size)
            shuffled = loader(plain_images, pixels, batch_sampler=batches)
        return Loaders(train, plain, test, order, shuffled)


def caption_file(cfg: CfgNode) -> Path:
    """The file that DATASETS.CAPTIONS names."""
    return Path(cfg.DATASETS.ROOT_DIR).expanduser() / Path(cfg.DATASETS.CAPTIONS).expanduser()


def make_described_images(cfg: CfgNode, dataset: ReIDDataset) -> DescribedImages:
    """The captions of DATASETS.CAPTIONS for the training images, and the loader of stage 0, if there is one.

    Raises ValueError or OSError for a file of another form, captions of none of the images, and fewer images
    with captions than a batch has.
    """
    captions = describe_images(dataset.train, _read_caption_file(cfg), str(caption_file(cfg)))
    node = cfg.SOLVER.STAGE0
    if not node.MAX_EPOCHS:
        return DescribedImages(captions, None)
    with as_keys({"batch_size": "SOLVER.STAGE0.IMS_PER_BATCH"}):
        described = [record for record in dataset.train if record.key in captions]
        workers = num_workers(cfg.DATALOADER.NUM_WORKERS)
        stand_ins = StandIns(described) if cfg.DATALOADER.ON_ERROR == "skip" else None
        images = _training_images(cfg, dataclasses.replace(dataset, train=described), stand_ins, workers)
        order = _shuffled(len(described), node.IMS_PER_BATCH, cfg.SOLVER.SEED)
        draws = AugmentedSampler(order, cfg.INPUT.PROB, cfg.INPUT.PADDING, cfg.SOLVER.SEED)
        batches = _in_batches(draws, node.IMS_PER_BATCH)
    pixels = PixelTransform(tuple(cfg.INPUT.PIXEL_MEAN), tuple(cfg.INPUT.PIXEL_STD))
    erased = _erasing(cfg, pixels, cfg.INPUT.RE_PROB / 2)
    loader = _image_loader(images, erased, workers=workers, seed=cfg.SOLVER.SEED, batch_sampler=batches)
    return DescribedImages(captions, loader)


def _read_caption_file(cfg: CfgNode) -> dict[str, list[str]]:
    """Captions by image name; a published file that is missing is fetched if DATASETS.DOWNLOAD says so."""
    path, root = caption_file(cfg), Path(cfg.DATASETS.ROOT_DIR).expanduser()
    if path != root / DATA_SOURCES[CAPTIONS].target:
        return read_captions(path)
    if cfg.DATASETS.DOWNLOAD:
        fetch_missing(CAPTIONS, root)
    with naming_download(CAPTIONS, root):
        return read_captions(path)


def _erasing(cfg: CfgNode, pixels: PixelTransform, probability: float) -> PixelTransform:
    fill = pixels.mean if cfg.INPUT.RE_MODE == "constant" else None
    return dataclasses.replace(pixels, erase_prob=probability, erase_fill=fill)


def make_loader(
    items: Dataset[Any] | Sequence[Any],
    collate_fn: Callable[[list[Any]], Any],
    *,
    workers: int,
    seed: int,
    **options: Any,
) -> DataLoader[Any]:
    """A loader with `options` of DataLoader; without a batch sampler, of this process's share of the items.

    `collate_fn` turns a list of items into a batch; `seed` is that of the loader's own generator.
    """
    if "batch_sampler" not in options:
        options["sampler"] = share(len(items))
    options.setdefault("persistent_workers", workers > 0)
    return DataLoader(
        items,
        **options,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate_fn,
        worker_init_fn=leave_signals_to_parent,
        # A loader without a generator of its own would move the global one on.
        generator=torch.Generator().manual_seed(seed),
    )


def _image_loader(
    images: ImageDataset, pixels: PixelTransform, *, workers: int, **options: Any
) -> DataLoader[LoadedBatch]:
    options["multiprocessing_context"] = _fork() if images.cached is not None and workers else None
    return make_loader(images, functools.partial(collate, pixels=pixels), workers=workers, **options)


def _training_images(
    cfg: CfgNode, dataset: ReIDDataset, stand_ins: StandIns | None, workers: int
) -> ImageDataset:
    images = ImageDataset(
        dataset.train,
        tuple(cfg.INPUT.SIZE_TRAIN),
        interpolation="fast bicubic",
        padding=cfg.INPUT.PADDING,
        stand_ins=stand_ins,
        upright=dataset.upright,
    )
    return cache_images(images, workers=workers) if cfg.DATALOADER.CACHE else images


def _order(cfg: CfgNode, records: Sequence[ImageRecord], labelled: bool) -> Order:
    """The order in which images are trained on in an epoch, or in a pass of it."""
    name, seed = cfg.DATALOADER.SAMPLER, cfg.SOLVER.SEED
    batch_size, images = main_solver(cfg).IMS_PER_BATCH, len(records)
    if name not in _SAMPLERS:
        raise ValueError(f"DATALOADER.SAMPLER is {name!r}; allowed: {', '.join(_SAMPLERS)}")
    if name == "softmax":
        return _shuffled(images, batch_size, seed)
    pids = [record.pid for record in records] if labelled else range(images)
    drawn = (pids, batch_size, cfg.DATALOADER.NUM_INSTANCE, seed)
    if name == "softmax_triplet":
        return RandomIdentitySampler(*drawn)
    return GraphSampler(*drawn, cfg.DATALOADER.GRAPH_ANCHORS, max(main_solver(cfg).ITERS, 0) or None)


def _shuffled(images: int, batch_size: int, seed: int) -> DistributedSampler:
    if images < batch_size:
        raise ValueError(f"batch_size is {batch_size}; allowed with {images} training images: up to {images}")
    # torch's sampler that shuffles by a seed and an epoch, for one process
    return DistributedSampler(range(images), 1, 0, shuffle=True, seed=seed)


def _in_batches(draws: Draws, batch_size: int, group: int = 1) -> EpochBatches:
    return EpochBatches(draws, batch_size, group=group, rank=rank(), world_size=world_size())


def _train_batches(cfg: CfgNode, order: Order) -> EpochBatches:
    """Batches of the main stage."""
    solver = main_solver(cfg)
    group = 1 if isinstance(order, DistributedSampler) else order.num_instances
    batch_size, indices = solver.IMS_PER_BATCH, order
    if solver.ITERS > 0 and not isinstance(order, GraphSampler):  # which counts them itself
        indices = RepeatedSampler(order, solver.ITERS * batch_size)
    draws = AugmentedSampler(indices, cfg.INPUT.PROB, cfg.INPUT.PADDING, cfg.SOLVER.SEED)
    return _in_batches(draws, batch_size, group)


def num_workers(wanted: int) -> int:
    """The number of processes that load images for DATALOADER.NUM_WORKERS `wanted`.

    -1 gives this process's share of the processors, 1 to 16; other numbers are capped to the processors, and
    all by the limit of open files.
    """
    if wanted < 0:
        return usual_workers()
    available = available_processors()
    if wanted > available:
        _logger.info("DATALOADER.NUM_WORKERS %d is capped to the %d processors here", wanted, available)
    return allowed_workers(min(wanted, available))


def _fork() -> str | None:
    """The start method by which workers share the cached images as they are; None is the system's own.

    By others the images move to shared memory once. macOS can fork, but its libraries may not go on after it.
    """
    return "fork" if sys.platform == "linux" else None
