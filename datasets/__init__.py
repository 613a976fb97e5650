"""From folders of images to batches: records, readers, pixels, samplers, loaders.

This is the face of the room; drawn data sets have their own, `datasets.drawn`.
"""

from datasets.attributes import read_attributes, templates
from datasets.batch import Batch, CaptionBatch, ImageBatch, LoadedBatch, PairBatch, collate, collate_captions
from datasets.captions import clean_caption, count_words, delete_words, vary_caption
from datasets.checks.audit import FileFacts, Findings, audit, inspect_files
from datasets.checks.captions import CaptionFindings, audit_captions
from datasets.checks.verify import verify_images
from datasets.graph import nearest_classes
from datasets.make_caption_dataset import make_caption_dataset
from datasets.make_caption_loaders import (
    CaptionLoaders,
    make_caption_loaders,
    make_text_search_augmentations,
)
from datasets.make_dataloader import (
    DescribedImages,
    Loaders,
    caption_file,
    make_dataloader,
    make_described_images,
    num_workers,
)
from datasets.make_dataset import make_dataset
from datasets.make_second_view import make_second_view
from datasets.naming import NamingRule, likely_rule
from datasets.pixels.augmentation import AugmentedSampler, Draw
from datasets.pixels.colours import colour_histogram, colours_of
from datasets.pixels.erasing import erase_constant
from datasets.pixels.images import ImageDataset, decode_image, read_image
from datasets.pixels.resize import from_pil, resize_like_pil
from datasets.pixels.transforms import PixelTransform, test_transform
from datasets.pixels.views import SecondView
from datasets.readers.custom import camera_marks
from datasets.records import CaptionDataset, CaptionRecord, EmptySplit, ImageRecord, ReIDDataset, Trial
from datasets.sampling.graph import GraphSampler
from datasets.sampling.identity import RandomIdentitySampler
from datasets.splitting import LabelledImage, split_by_identity
from datasets.subjects import read_subjects
from datasets.vehicle_types import read_type_phrases
from utils.data_sources import DATA_SOURCES
from utils.limits import available_processors
from utils.modes import find_oddities, log_oddities, to_rgb

__all__ = [
    "DATA_SOURCES",
    "AugmentedSampler",
    "Batch",
    "CaptionBatch",
    "CaptionDataset",
    "CaptionFindings",
    "CaptionLoaders",
    "CaptionRecord",
    "DescribedImages",
    "Draw",
    "EmptySplit",
    "FileFacts",
    "Findings",
    "GraphSampler",
    "ImageBatch",
    "ImageDataset",
    "ImageRecord",
    "LabelledImage",
    "LoadedBatch",
    "Loaders",
    "NamingRule",
    "PairBatch",
    "PixelTransform",
    "RandomIdentitySampler",
    "ReIDDataset",
    "SecondView",
    "Trial",
    "audit",
    "audit_captions",
    "available_processors",
    "camera_marks",
    "caption_file",
    "clean_caption",
    "collate",
    "collate_captions",
    "colour_histogram",
    "colours_of",
    "count_words",
    "decode_image",
    "delete_words",
    "erase_constant",
    "find_oddities",
    "from_pil",
    "inspect_files",
    "likely_rule",
    "log_oddities",
    "make_caption_dataset",
    "make_caption_loaders",
    "make_dataloader",
    "make_dataset",
    "make_described_images",
    "make_second_view",
    "make_text_search_augmentations",
    "nearest_classes",
    "num_workers",
    "read_attributes",
    "read_image",
    "read_subjects",
    "read_type_phrases",
    "resize_like_pil",
    "split_by_identity",
    "templates",
    "test_transform",
    "to_rgb",
    "vary_caption",
    "verify_images",
]
