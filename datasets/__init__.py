"""From folders of images to batches: records, parsers, transforms, samplers, loaders."""

from datasets.augmentation import AugmentedSampler, Draw
from datasets.batch import Batch, LoadedBatch
from datasets.check import verify_images
from datasets.erasing import erase_constant
from datasets.images import ImageDataset, decode_image, read_image
from datasets.make_dataloader import Loaders, available_processors, make_dataloader, num_workers
from datasets.make_dataset import make_dataset
from datasets.records import ImageRecord, ReIDDataset, Trial
from datasets.resize import resize_like_pil
from datasets.sampler import RandomIdentitySampler
from datasets.transforms import PixelTransform, test_transform

__all__ = [
    "AugmentedSampler",
    "Batch",
    "Draw",
    "ImageDataset",
    "ImageRecord",
    "LoadedBatch",
    "Loaders",
    "PixelTransform",
    "RandomIdentitySampler",
    "ReIDDataset",
    "Trial",
    "available_processors",
    "decode_image",
    "erase_constant",
    "make_dataloader",
    "make_dataset",
    "num_workers",
    "read_image",
    "resize_like_pil",
    "test_transform",
    "verify_images",
]
