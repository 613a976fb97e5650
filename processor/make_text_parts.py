"""From the configuration to the parts of a text search: what its row in the table of methods names."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from yacs.config import CfgNode

from datasets import CaptionDataset, CaptionLoaders, CaptionRecord, Trial, make_caption_loaders
from model import (
    DualModel,
    make_text_search_card,
    make_text_search_model,
    make_text_search_test_model,
    model_label,
)
from processor.evaluation import Evaluation, TextToImage
from processor.make_parts import Description, Parts
from utils.distributed import is_first
from utils.environment import package_versions

_AT_ONCE = 1000  # captions that are tokenized together

_logger = logging.getLogger("transreid")


def text_model(cfg: CfgNode, dataset: CaptionDataset, *, pretrained: bool) -> DualModel:
    """A text search model for the training split."""
    model = make_text_search_model(cfg, dataset.num_train_pids, pretrained=pretrained)
    _log_cut([*dataset.train, *dataset.test_captions()], model)
    return model


def text_loaders(cfg: CfgNode, dataset: CaptionDataset, model: DualModel) -> CaptionLoaders:
    """Loaders of text search, which leave out pieces of the model's tokenizer in scripts without spaces."""
    return make_caption_loaders(cfg, dataset, pieces=model.encode_text.tokenizer.pieces)


def text_evaluation(cfg: CfgNode, dataset: CaptionDataset, loaders: CaptionLoaders, model: Any) -> Evaluation:
    """Captions are searched among images, or the other way round, by cosine."""
    return _evaluation(cfg, dataset, loaders, model, {})


def _evaluation(
    cfg: CfgNode, dataset: CaptionDataset, loaders: CaptionLoaders, model: Any, info: Mapping[str, Any]
) -> Evaluation:
    trials = _trials(cfg, dataset)
    return TextToImage(loaders.images, loaders.captions, trials, model, info, dataset.trial_names)


def _trials(cfg: CfgNode, dataset: CaptionDataset) -> list[Trial]:
    """The trials of a data set; for TEST.DIRECTION 'image_to_text' with their roles changed."""
    if cfg.TEST.DIRECTION == "text_to_image":
        return dataset.trials
    return [Trial(query=trial.gallery, gallery=trial.query, rule=trial.rule) for trial in dataset.trials]


def text_test(cfg: CfgNode, dataset: CaptionDataset) -> tuple[nn.Module, Evaluation]:
    """The text search model in TEST.WEIGHT, and the captions and images that it is tested on."""
    model, file = make_text_search_test_model(cfg)
    _log_cut(dataset.test_captions(), model)
    info = {
        "dataset": dataset.name,
        "split": dataset.split,
        "direction": cfg.TEST.DIRECTION,
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
    if list(cfg.TEST.LANGUAGES) != [""]:
        info["languages"] = list(cfg.TEST.LANGUAGES)
    loaders = make_caption_loaders(cfg, dataset, size=file.size)
    return model, _evaluation(cfg, dataset, loaders, model, info)


def text_card(cfg: CfgNode, parts: Parts, method: str) -> Description:
    """The model card of a text search model; its tokenizer's file is written with it."""
    about = {"data": parts.dataset.name, "versions": package_versions()}
    card = make_text_search_card(cfg, parts.model, method, **about)

    def write(path: Path) -> None:
        card.write(path)
        parts.model.encode_text.tokenizer.save(path.parent)

    return Description(card.text(), write)


def _log_cut(records: Sequence[CaptionRecord], model: DualModel) -> None:
    """Log how many captions have more tokens than the model reads."""
    if not is_first():
        return
    tokenizer = model.encode_text.tokenizer
    parts = (records[start : start + _AT_ONCE] for start in range(0, len(records), _AT_ONCE))
    cut = sum(sum(tokenizer.are_cut([record.caption for record in part])) for part in parts)
    if cut:
        text = "%d of %d captions are cut at %d tokens (MODEL.TEXT_LENGTH)"
        _logger.info(text, cut, len(records), tokenizer.context_length)
