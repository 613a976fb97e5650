"""From folders of images to batches: records, parsers, transforms, samplers, loaders."""

from datasets.batch import Batch
from datasets.check import verify_images
from datasets.images import ImageDataset, read_image
from datasets.make_dataloader import Loaders, make_dataloader
from datasets.make_dataset import make_dataset
from datasets.records import ImageRecord, ReIDDataset, Trial
from datasets.sampler import RandomIdentitySampler
from datasets.transforms import test_transform, train_transform

__all__ = [
    "Batch",
    "ImageDataset",
    "ImageRecord",
    "Loaders",
    "RandomIdentitySampler",
    "ReIDDataset",
    "Trial",
    "make_dataloader",
    "make_dataset",
    "read_image",
    "test_transform",
    "train_transform",
    "verify_images",
]
