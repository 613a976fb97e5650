"""From the configuration to the parts of a text search: what its row in the table of methods names."""

from yacs.config import CfgNode

from datasets import CaptionDataset, CaptionLoaders, Trial
from model import (
    DualModel,
    make_text_search_model,
)
from processor.evaluation import Evaluation, TextToImage


def text_model(cfg: CfgNode, dataset: CaptionDataset, *, pretrained: bool) -> DualModel:
    """A text search model for the training split."""
    return make_text_search_model(cfg, dataset.num_train_pids, pretrained=pretrained)


def text_evaluation(
    cfg: CfgNode, dataset: CaptionDataset, loaders: CaptionLoaders, model: DualModel
) -> Evaluation:
    """Captions are searched among images, or the other way round, by cosine."""
    return TextToImage(loaders.images, loaders.captions, _trials(cfg, dataset), model)


def _trials(cfg: CfgNode, dataset: CaptionDataset) -> list[Trial]:
    """The trials of a data set; for TEST.DIRECTION 'image_to_text' with their roles changed."""
    if cfg.TEST.DIRECTION == "text_to_image":
        return dataset.trials
    return [Trial(query=trial.gallery, gallery=trial.query, rule=trial.rule) for trial in dataset.trials]
