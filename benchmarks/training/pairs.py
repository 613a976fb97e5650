"""The jobs of benchmarks/training that load TBPS-CLIP's training pairs, ours and as research code loads them.

There, each picture of an image goes through PIL and one transform after the other, and all four are made
whatever is trained (Cao, Bai, Zeng, Ye, Zhang, AAAI 2024).
"""

import random
from collections.abc import Sequence

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from yacs.config import CfgNode

from benchmarks.training import jobs
from benchmarks.training.inputs import measure_loader, one_thread
from benchmarks.training.jobs import Record, Settings
from benchmarks.training.text_search import WORDS, configuration
from datasets import (
    CaptionDataset,
    CaptionRecord,
    PairBatch,
    delete_words,
    make_caption_loaders,
    make_dataset,
)

WORDS_OF_A_CAPTION = 23  # as CUHK-PEDES has on average


def train_loader(settings: Settings, kind: str) -> Record:
    """Epochs of the training loader of the 'full' or 'simplified' configuration."""
    with one_thread():
        config = configuration(settings, kind, {"DATALOADER.NUM_WORKERS": 0})
        return measure_loader(make_caption_loaders(config, _described_people(settings)).train, settings)


def train_loader_textbook(settings: Settings) -> Record:
    """The same epochs by PIL and torchvision."""
    with one_thread():
        config = configuration(settings, "full")
        pairs = _Pairs(_described_people(settings).train, config)
        pinned = torch.cuda.is_available()
        loader = DataLoader(
            pairs, settings.batch, shuffle=True, drop_last=True, collate_fn=_collate, pin_memory=pinned
        )
        return measure_loader(loader, settings)


def _described_people(settings: Settings) -> CaptionDataset:
    """The pictures of a Market-1501, each with a caption of random words."""
    dataset, rng = make_dataset(jobs.configuration(settings)), random.Random(settings.seed)
    captions = [
        CaptionRecord(
            record.path, record.pid, " ".join(rng.choices(WORDS, k=WORDS_OF_A_CAPTION)), "", record.key
        )
        for record in dataset.train
    ]
    return CaptionDataset("drawn", captions, dataset.trials)


_Item = tuple[CaptionRecord, str, list[Tensor]]


class _Pairs(Dataset[_Item]):
    """Records as items (record, varied caption, its four pictures (3, H, W) float)."""

    def __init__(self, records: Sequence[CaptionRecord], config: CfgNode) -> None:
        self.records, self.deletion = records, config.INPUT.WORD_DELETION
        size = tuple(config.INPUT.SIZE_TRAIN)
        last = [T.ToTensor(), T.Normalize(config.INPUT.PIXEL_MEAN, config.INPUT.PIXEL_STD)]
        pool = T.RandomChoice(
            [
                T.ColorJitter(0.1, 0.1, 0.1),
                T.RandomRotation(15),
                T.RandomResizedCrop(size, (0.9, 1.0)),
                T.RandomGrayscale(0.1),
                T.RandomHorizontalFlip(0.5),
                T.RandomErasing(0.5, (0.1, 0.2)),
            ]
        )
        self.pool = T.Compose([T.Resize(size), last[0], pool, pool, last[1]])
        self.view = T.Compose(
            [
                T.RandomResizedCrop(size, (0.2, 1.0)),
                T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
                T.RandomGrayscale(0.2),
                T.RandomApply([T.Lambda(_blur)], 0.5),
                T.RandomHorizontalFlip(0.5),
                *last,
            ]
        )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> _Item:
        record = self.records[index]
        with Image.open(record.path) as file:
            image = file.convert("RGB")
        pictures = [transform(image) for transform in (self.pool, self.pool, self.view, self.view)]
        return record, delete_words(record.caption, self.deletion, random.Random()), pictures


def _blur(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def _collate(items: list[_Item]) -> PairBatch:
    records, captions, pictures = zip(*items, strict=True)
    images, *others = (torch.stack(kind) for kind in zip(*pictures, strict=True))
    pids = torch.tensor([record.pid for record in records])
    paths, keys = [record.path for record in records], [record.key for record in records]
    return PairBatch(images, list(captions), pids, paths, keys, torch.zeros_like(pids), *others)
