"""From the configuration to the loaders and augmentations of text search."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from config.errors import as_keys
from datasets.batch import CaptionBatch, LoadedBatch, LoadedPairs, collate, collate_captions, collate_pairs
from datasets.captions import Pieces, vary_caption
from datasets.make_dataloader import make_loader, num_workers
from datasets.pixels.images import ImageDataset
from datasets.pixels.pairs import MIXES, PairDataset
from datasets.pixels.pool import Augmentation, pool_augmentation, view_augmentation
from datasets.pixels.resize import from_pil
from datasets.pixels.transforms import PixelTransform
from datasets.records import CaptionDataset
from datasets.sampling.epoch_batches import EpochBatches
from datasets.sampling.pairs import PairSampler
from utils.distributed import rank, world_size
from utils.scripts import clusters

_KEYS = {"batch_size": "SOLVER.IMS_PER_BATCH", "interpolation": "INPUT.TEST_RESIZE"}

PictureAugmentation = Callable[[Image.Image, int], Tensor]


@dataclass(frozen=True)
class CaptionLoaders:
    """Loaders of text search.

    Args:
        train: pairs, augmented and shuffled; call `train.batch_sampler.set_epoch` before each epoch. None
            when the data set was read without its training split.
        images: all images of the trials.
        captions: all captions of the trials.
    """

    train: DataLoader[LoadedPairs] | None
    images: DataLoader[LoadedBatch]
    captions: DataLoader[CaptionBatch]


def make_caption_loaders(
    cfg: CfgNode,
    dataset: CaptionDataset,
    size: tuple[int, int] | None = None,
    pieces: Pieces = clusters,
) -> CaptionLoaders:
    """Build the loaders; `size` (H, W) replaces INPUT.SIZE_TEST.

    `pieces` are what INPUT.WORD_DELETION leaves out of a text without spaces, such as those of a tokenizer.
    In a torch.distributed run, `train` gives this process's share of every batch, the others its share of
    images and captions. Raises ValueError for a batch size that training split or number of processes does
    not allow.
    """
    with as_keys(_KEYS):
        workers, batch_size = num_workers(cfg.DATALOADER.NUM_WORKERS), cfg.TEST.IMS_PER_BATCH
        test = ImageDataset(
            dataset.test_records(),
            tuple(size or cfg.INPUT.SIZE_TEST),
            interpolation=cfg.INPUT.TEST_RESIZE,
            upright=dataset.upright,
        )
        loader = functools.partial(make_loader, seed=cfg.SOLVER.SEED)
        of_images = functools.partial(collate, pixels=_pixels(cfg))
        return CaptionLoaders(
            _train_loader(cfg, dataset, workers, pieces) if dataset.train else None,
            loader(test, of_images, workers=workers, batch_size=batch_size),
            # Nothing is read for them.
            loader(dataset.test_captions(), collate_captions, workers=0, batch_size=batch_size),
        )


def make_text_search_augmentations(cfg: CfgNode) -> tuple[PictureAugmentation, PictureAugmentation]:
    """The augmentations of training, `pool` and `view`: an RGB picture and a seed → (3, H, W), normalised."""
    size, pixels = tuple(cfg.INPUT.SIZE_TRAIN), _pixels(cfg)

    def of_pictures(augment: Augmentation) -> PictureAugmentation:
        return lambda picture, seed: pixels(augment(from_pil(picture), seed)[None])[0]

    return of_pictures(pool_augmentation(size)), of_pictures(view_augmentation(size))


def _train_loader(
    cfg: CfgNode, dataset: CaptionDataset, workers: int, pieces: Pieces
) -> DataLoader[LoadedPairs]:
    size, node = tuple(cfg.INPUT.SIZE_TRAIN), cfg.INPUT
    sampler = PairSampler(
        len(dataset.train),
        cfg.SOLVER.IMS_PER_BATCH,
        cfg.SOLVER.SEED,
        mix_probability=0 if node.MIXGEN == "none" else node.MIXGEN_PROB,
        mix_share=node.MIXGEN_RATIO,
    )
    pairs = PairDataset(
        dataset.train,
        size,
        pool_augmentation(size),
        functools.partial(
            vary_caption,
            back_translation=node.BACK_TRANSLATION,
            deletion=node.WORD_DELETION,
            pieces=pieces,
        ),
        # Only what a loss wants is made.
        second_images=bool(cfg.MODEL.MULTI_VIEW and cfg.MODEL.NITC_LOSS_WEIGHT),
        view=view_augmentation(size) if cfg.MODEL.SS_LOSS_WEIGHT else None,
        mix=MIXES[node.MIXGEN],
        upright=dataset.upright,
    )
    return make_loader(
        pairs,
        functools.partial(collate_pairs, pixels=_pixels(cfg)),
        workers=workers,
        seed=cfg.SOLVER.SEED,
        batch_sampler=EpochBatches(sampler, cfg.SOLVER.IMS_PER_BATCH, rank=rank(), world_size=world_size()),
    )


def _pixels(cfg: CfgNode) -> PixelTransform:
    return PixelTransform(tuple(cfg.INPUT.PIXEL_MEAN), tuple(cfg.INPUT.PIXEL_STD))
