"""From the configuration to the parts of a text search: what its row in the table of methods names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from yacs.config import CfgNode

from datasets import CaptionDataset, CaptionLoaders, Trial, make_caption_loaders
from model import (
    DualModel,
    make_text_search_card,
    make_text_search_model,
    make_text_search_test_model,
    model_label,
)
from processor.evaluation import Evaluation, TextToImage
from processor.make_parts import Parts
from utils.environment import package_versions


def text_model(cfg: CfgNode, dataset: CaptionDataset, *, pretrained: bool) -> DualModel:
    """A text search model for the training split."""
    return make_text_search_model(cfg, dataset.num_train_pids, pretrained=pretrained)


def text_evaluation(cfg: CfgNode, dataset: CaptionDataset, loaders: CaptionLoaders, model: Any) -> Evaluation:
    """Captions are searched among images, or the other way round, by cosine."""
    return TextToImage(loaders.images, loaders.captions, _trials(cfg, dataset), model)


def _trials(cfg: CfgNode, dataset: CaptionDataset) -> list[Trial]:
    """The trials of a data set; for TEST.DIRECTION 'image_to_text' with their roles changed."""
    if cfg.TEST.DIRECTION == "text_to_image":
        return dataset.trials
    return [Trial(query=trial.gallery, gallery=trial.query, rule=trial.rule) for trial in dataset.trials]


def text_test(cfg: CfgNode, dataset: CaptionDataset) -> tuple[nn.Module, Evaluation]:
    """The text search model in TEST.WEIGHT, and the captions and images that it is tested on."""
    model, file = make_text_search_test_model(cfg)
    info = {
        "dataset": dataset.name,
        "split": cfg.DATASETS.EVAL_SPLIT,
        "model": model_label(cfg.MODEL.NAME),
        "weight": cfg.TEST.WEIGHT,
        "size": list(file.size),
        "stride": list(file.stride),
        "pixel_mean": list(file.mean),
        "pixel_std": list(file.std),
        "resize": file.resize,
        "text_length": model.encode_text.tokenizer.context_length,
        "orientation": "exif" if dataset.upright else "stored",
    }
    loaders = make_caption_loaders(cfg, dataset, size=file.size)
    return model, TextToImage(loaders.images, loaders.captions, _trials(cfg, dataset), model, info)


def text_card(cfg: CfgNode, parts: Parts, method: str) -> Callable[[Path], object]:
    """Writes the model card of a text search model next to a checkpoint."""
    about = {"data": parts.dataset.name, "versions": package_versions()}
    return make_text_search_card(cfg, parts.model, method, **about).write
