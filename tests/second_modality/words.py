"""A toy method of a second modality: sentences about drawn people, as bags of words, against their images.

It is what a new method is: keys, data, loaders, model, objective, evaluation, stages, and one row.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from config import shared
from config.keys import POSITIVE, Key, KeyTable, under
from config.stages import MAIN_STAGE
from datasets import (
    Batch,
    CaptionBatch,
    CaptionRecord,
    ImageDataset,
    ReIDDataset,
    Trial,
    collate,
    make_dataset,
)
from datasets.drawn.people import draw_people
from datasets.pixels.transforms import PixelTransform
from loss import supcon_loss
from processor import Method
from processor.engine import Objective, Stage, Step
from processor.evaluation import Stream, make_task
from processor.make_recipes import make_plan
from retrieval import FeatureSet

TABLE = KeyTable(
    ("train_words.py",),
    {
        **shared.KEYS,
        **under("SOLVER", MAIN_STAGE),
        "WORDS.WIDTH": Key(64, "Width of the common features.", POSITIVE),
        "WORDS.DROP": Key(0.2, "Share of the words that a sentence leaves out."),
    },
    training_checks=(shared.check_training,),
)


# ---- data: each image of the drawn people with one sentence


def read_words(cfg, *, need_train=True):
    images = make_dataset(cfg, need_train=need_train)
    describe = functools.partial(_describe, draw_people(120, np.random.default_rng(0)), cfg.WORDS.DROP)
    (trial,) = images.trials
    query = [describe(record, record.pid - 1, number) for record in trial.query for number in range(2)]
    train = [describe(record, record.pid) for record in images.train]
    return replace(images, train=train, trials=[Trial(query, trial.gallery, "all")])


def _describe(people, drop, record, row, number=0):
    """Sentence `number` about the image of a person, with some words left out."""
    words = [f"{place}:{word}" for place, word in enumerate(astuple(people[row]))]
    rng = np.random.default_rng([number, *PurePath(record.path).name.encode()])
    caption = " ".join(itertools.compress(words, rng.random(len(words)) >= drop))
    return CaptionRecord(record.path, record.pid, caption, "", f"{record.path}#{number}")


@dataclass(frozen=True)
class PairBatch(Batch):
    """B images (B, 3, H, W) and B sentences about them."""

    images: Tensor
    captions: list[str]
    pids: Tensor
    paths: list[str]
    keys: list[str]


class Pairs:
    """Shuffled batches of images with their sentences; both loader and sampler."""

    def __init__(self, records: Sequence[CaptionRecord], images: ImageDataset, pixels, batch_size, seed):
        self.records, self.images, self.pixels, self.size, self.seed = (
            records,
            images,
            pixels,
            batch_size,
            seed,
        )
        self.set_epoch(1)

    def set_epoch(self, epoch, start=0):
        order = torch.randperm(len(self.records), generator=torch.Generator().manual_seed(self.seed + epoch))
        self.batches, self.start = order[: len(self) * self.size].view(-1, self.size).tolist(), start

    def __len__(self):
        return len(self.records) // self.size

    def __iter__(self) -> Iterator[PairBatch]:
        for rows in self.batches[self.start :]:
            records = [self.records[row] for row in rows]
            images = self.pixels(torch.stack([self.images[row][0] for row in rows]))
            yield PairBatch(images, *_columns(records))


@dataclass(frozen=True)
class WordLoaders:
    train: Pairs
    images: DataLoader
    captions: DataLoader


def make_loaders(cfg, dataset: ReIDDataset, model) -> WordLoaders:
    pixels = PixelTransform(tuple(cfg.INPUT.PIXEL_MEAN), tuple(cfg.INPUT.PIXEL_STD))
    size, count = tuple(cfg.INPUT.SIZE_TRAIN), cfg.TEST.IMS_PER_BATCH
    images = functools.partial(ImageDataset, size=size, interpolation="bilinear")
    made = functools.partial(DataLoader, batch_size=count, generator=torch.Generator())
    train = Pairs(dataset.train, images(dataset.train), pixels, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.SEED)
    gallery = made(images(dataset.gallery), collate_fn=functools.partial(collate, pixels=pixels))
    return WordLoaders(train, gallery, made(dataset.query, collate_fn=_collate_captions))


def _collate_captions(records: list[CaptionRecord]) -> CaptionBatch:
    return CaptionBatch(*_columns(records))


def _columns(records: Sequence[CaptionRecord]):
    """Captions, pids, paths, keys."""
    captions, paths, keys = ([getattr(r, name) for r in records] for name in ("caption", "path", "key"))
    return captions, torch.tensor([record.pid for record in records]), paths, keys


# ---- model and objective


class WordModel(nn.Module):
    """Images by their colours on a grid, sentences by the sum of their words, in one space."""

    def __init__(self, words: Sequence[str], width: int):
        super().__init__()
        self.rows = {word: row for row, word in enumerate(words, start=1)}  # row 0: an unknown word
        self.words = nn.Embedding(len(words) + 1, width)
        self.image = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.LazyLinear(width))

    def encode_image(self, images: Tensor) -> Tensor:
        return nn.functional.normalize(self.image(images))

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        device = self.words.weight.device
        rows = [torch.tensor([self.rows.get(w, 0) for w in text.split()], device=device) for text in captions]
        return nn.functional.normalize(torch.stack([self.words(row).sum(dim=0) for row in rows]))


class WordObjective(Objective):
    def __init__(self, model: WordModel):
        super().__init__()
        self.model = model

    def forward(self, batch: PairBatch) -> Step:
        images = 10 * self.model.encode_image(batch.images)
        texts, pids = self.model.encode_text(batch.captions), batch.pids
        losses = {
            "i2t": supcon_loss(images, texts, pids, pids),
            "t2i": supcon_loss(texts, images, pids, pids),
        }
        return Step(losses, {}, len(pids))


def make_model(cfg, dataset, *, pretrained):
    words = sorted({word for record in dataset.train for word in record.caption.split()})
    model = WordModel(words, cfg.WORDS.WIDTH)
    model.encode_image(torch.zeros(1, 3, *cfg.INPUT.SIZE_TRAIN))
    return model


# ---- evaluation, stages, row


@dataclass(frozen=True)
class TextToImage:
    loaders: WordLoaders
    trials: Sequence[Trial]
    model: WordModel
    info: dict

    def streams(self):
        return {
            "image": Stream(self.loaders.images, lambda batch: self.model.encode_image(batch.images)),
            "text": Stream(self.loaders.captions, lambda batch: self.model.encode_text(batch.captions)),
        }

    def task(self, features):
        return make_task(FeatureSet.concat([features["text"], features["image"]]), self.trials, self.info)


def word_stages(cfg, parts, run):
    plan, train = make_plan(cfg, "main"), parts.loaders.train
    optimizer = plan.make_optimizer(parts.model.named_parameters())
    yield Stage("words", WordObjective(parts.model), train, train, optimizer, plan)


def load_weight(cfg, dataset):
    model = make_model(cfg, read_words(cfg), pretrained=False)  # the words are those of training
    model.load_state_dict(torch.load(cfg.TEST.WEIGHT, weights_only=True))
    loaders = make_loaders(cfg, dataset, model)
    return model, TextToImage(loaders, dataset.trials, model, {"weight": cfg.TEST.WEIGHT})


WORDS = Method(
    "words",
    TABLE.tree(),
    word_stages,
    data=read_words,
    model=make_model,
    loaders=make_loaders,
    evaluation=lambda cfg, dataset, loaders, model: TextToImage(loaders, dataset.trials, model, {}),
    test=load_weight,
    adopt=lambda cfg, given: cfg,
    card=lambda cfg, parts, method: None,
)
