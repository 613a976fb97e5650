"""The jobs of benchmarks/training that read pictures: loaders and feature extraction."""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from yacs.config import CfgNode

from benchmarks.measure import count_flops, measure, time_each
from benchmarks.training import textbook
from benchmarks.training.jobs import (
    INSTANCES,
    Record,
    Settings,
    arithmetic,
    build_model,
    configuration,
    textbook_image_model,
)
from datasets import (
    ImageBatch,
    LoadedBatch,
    RandomIdentitySampler,
    ReIDDataset,
    Trial,
    make_dataloader,
    make_dataset,
)
from datasets.drawn import draw_market1501
from processor import extract
from utils.precision import inference_precision

CAMERAS, SHOTS = 4, 4  # drawn pictures of an identity: SHOTS from each camera
EXTRACTED_BATCHES = 2  # of a pass of extraction
COMPARED = 8  # images whose features are compared
NO_AUGMENTATION = {"INPUT.PROB": 0.0, "INPUT.PADDING": 0, "INPUT.RE_PROB": 0.0}


def draw_pictures(root: Path, batch: int, seed: int) -> None:
    """Draw a Market-1501 of 64 x 128 pixels with four batches for training and as many for tests."""
    identities = -(-batch // INSTANCES)
    draw_market1501(
        root,
        train_ids=identities,
        test_ids=identities,
        images_per_camera=SHOTS,
        cameras=CAMERAS,
        distractors=0,
        seed=seed,
    )


# ---- loaders


def train_loader(settings: Settings) -> Record:
    """Epochs of the training loader, and the mean of each image as it is without augmentation."""
    with one_thread():
        config, plain = configuration(settings), configuration(settings, NO_AUGMENTATION)
        dataset = make_dataset(config)
        means = _image_means(make_dataloader(plain, dataset).train, settings)
        return measure_loader(make_dataloader(config, dataset).train, settings) | {"means": means}


def train_loader_textbook(settings: Settings) -> Record:
    """The same epochs by PIL and torchvision."""
    with one_thread():
        config, plain = configuration(settings), configuration(settings, NO_AUGMENTATION)
        dataset = make_dataset(config)
        means = _image_means(_textbook_train_loader(plain, dataset), settings)
        return measure_loader(_textbook_train_loader(config, dataset), settings) | {"means": means}


def test_loader(settings: Settings) -> Record:
    """Passes over the test images, and a digest of what they give."""
    with one_thread():
        config = configuration(settings)
        loader = make_dataloader(config, make_dataset(config, need_train=False)).test
        return measure_loader(loader, settings) | {"digest": _digest(loader, settings)}


def test_loader_textbook(settings: Settings) -> Record:
    """The same passes by PIL and torchvision."""
    with one_thread():
        config = configuration(settings)
        loader = _textbook_test_loader(config, make_dataset(config, need_train=False))
        return measure_loader(loader, settings) | {"digest": _digest(loader, settings)}


def measure_loader(loader: Iterable[ImageBatch | LoadedBatch], settings: Settings) -> Record:
    """Time or memory of a pass, with the way of each batch to the device."""
    epochs = itertools.count(1)

    def one_pass() -> int:
        epoch = next(epochs)
        for sampler in (loader.batch_sampler, loader.sampler):  # ours hears of the epoch as the first
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        return sum(len(batch.to(settings.device).pids) for batch in loader)

    images = one_pass()
    if settings.quantity == "memory":
        return {"images": images, "megabytes": measure(one_pass, settings.device)[1].megabytes}
    seconds = statistics.median(time_each(one_pass, settings.steps, settings.device))
    return {"images": images, "seconds": seconds}


def _textbook_train_loader(config: CfgNode, dataset: ReIDDataset) -> Iterable[ImageBatch]:
    transform = textbook.train_transform(
        tuple(config.INPUT.SIZE_TRAIN),
        config.INPUT.PIXEL_MEAN,
        config.INPUT.PIXEL_STD,
        flip_prob=config.INPUT.PROB,
        padding=config.INPUT.PADDING,
        erase_prob=config.INPUT.RE_PROB,
    )
    batch = config.SOLVER.STAGE2.IMS_PER_BATCH
    pids = [record.pid for record in dataset.train]
    sampler = RandomIdentitySampler(pids, batch, INSTANCES, config.SOLVER.SEED)
    return textbook.make_loader(textbook.Pictures(dataset.train, transform), batch, sampler)


def _textbook_test_loader(config: CfgNode, dataset: ReIDDataset) -> Iterable[ImageBatch]:
    transform = textbook.test_transform(
        tuple(config.INPUT.SIZE_TEST), config.INPUT.PIXEL_MEAN, config.INPUT.PIXEL_STD
    )
    return textbook.make_loader(
        textbook.Pictures(dataset.test_records(), transform), config.TEST.IMS_PER_BATCH
    )


def _image_means(loader: Iterable[ImageBatch | LoadedBatch], settings: Settings) -> list[float]:
    batches = (batch.to(settings.device).images for batch in loader)
    return torch.cat([images.mean(dim=(1, 2, 3)) for images in batches]).tolist()


def _digest(loader: Iterable[ImageBatch | LoadedBatch], settings: Settings) -> str:
    digest = hashlib.sha256()
    for batch in loader:
        digest.update(batch.to(settings.device).images.cpu().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """As in a worker of a loader, where torch has one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---- extraction


def extraction(settings: Settings, amp: str) -> Record:
    """Features of pictures on disk, as a test extracts them."""
    config = configuration(settings)
    model = build_model(config)
    loader = make_dataloader(config, _few_pictures(config)).test
    precision = inference_precision(amp, settings.device)

    def one_pass() -> Tensor:
        return extract(model, loader, settings.device, precision=precision).features

    return measure_extraction(one_pass, precision.dtype, settings)


def extraction_textbook(settings: Settings) -> Record:
    """The same features in float32, every token through every block."""
    config = configuration(settings)
    model = textbook_image_model(config)
    loader = _textbook_test_loader(config, _few_pictures(config))
    one_pass = functools.partial(textbook.extract, model, loader, settings.device)
    return measure_extraction(one_pass, torch.float32, settings)


def measure_extraction(one_pass: Callable[[], Tensor], dtype: torch.dtype, settings: Settings) -> Record:
    """Time and arithmetic of a pass, or its memory, and features of some images."""
    features = one_pass()
    record = {"images": len(features), "features": features[:COMPARED].tolist()}
    if settings.quantity == "memory":
        return record | {"megabytes": measure(one_pass, settings.device)[1].megabytes}
    seconds = statistics.median(time_each(one_pass, settings.steps, settings.device))
    flops = count_flops(one_pass)
    return record | {"seconds": seconds, **arithmetic(flops, seconds, dtype, settings.device)}


def _few_pictures(config: CfgNode) -> ReIDDataset:
    dataset = make_dataset(config, need_train=False)
    records = dataset.test_records()[: EXTRACTED_BATCHES * config.TEST.IMS_PER_BATCH]
    return dataclasses.replace(dataset, trials=[Trial(records, [])])
