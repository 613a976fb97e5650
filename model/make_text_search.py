"""From the configuration to text search models and their cards."""

import logging
from collections.abc import Collection, Mapping

from yacs.config import CfgNode

from config.errors import as_keys
from model.clip import build_clip, clip_config, load_clip, model_label
from model.dual import DualModel
from model.files.architecture import unseen_facts
from model.files.card import TextSearchCard, read_text_search_card
from model.files.text_search_file import load_text_search_model, read_text_search_file
from model.files.text_search_info import TextSearchInfo
from model.freezing import freeze_text
from model.make_model import IMAGE_KEYS, adopt_values, image_facts, training_backbone, warn_of_unused_path
from model.masked_words import masked_word_parts
from model.towers.image import ViTBackbone
from model.towers.text import ClipText

_KEYS = {
    "name": "MODEL.NAME",
    "stride": "MODEL.STRIDE_SIZE",
    "path": "MODEL.PRETRAIN_PATH",
    "tag": "MODEL.PRETRAIN_TAG",
    "recompute_blocks": "SOLVER.GRAD_CHECKPOINT",
    "micro_batch": "SOLVER.MICRO_BATCH",
    "simclr": "MODEL.SIMCLR_MLP",
    "width": "MODEL.MLM_LOSS_WEIGHT is on, but the width of features of MODEL.NAME",
}
_TEST_KEYS = {
    "path": "TEST.WEIGHT",
    "name": "MODEL.NAME",
    "size": "INPUT.SIZE_TEST",
    "stride": "MODEL.STRIDE_SIZE",
    "text_length": "MODEL.TEXT_LENGTH",
}
# Facts of a card, and the keys that say the same of a test.
_CARD_KEYS = IMAGE_KEYS | {"text_length": "MODEL.TEXT_LENGTH"}
_logger = logging.getLogger("transreid.model")


@as_keys(_KEYS)
def make_text_search_model(cfg: CfgNode, num_classes: int = 0, *, pretrained: bool = True) -> DualModel:
    """The model that training starts from, on the CPU, in training mode.

    Its towers are those of CLIP or of another text search model in MODEL.PRETRAIN_PATH, or CLIP's by
    MODEL.PRETRAIN_TAG, or random (MODEL.PRETRAIN_CHOICE 'none', or not `pretrained`, where others will be
    loaded); its heads are new. `num_classes` are the identities of the classifier, which MODEL.ID_LOSS_WEIGHT
    needs. Raises ValueError or FileNotFoundError for weights that do not fit.
    """
    node, file = cfg.MODEL, None
    if pretrained and node.PRETRAIN_CHOICE != "none" and node.PRETRAIN_PATH:
        file = read_text_search_file(node.PRETRAIN_PATH, node.NAME)
    if pretrained and file is None:
        warn_of_unused_path(cfg)
        clip = load_clip(node.NAME, node.PRETRAIN_CHOICE, "", node.PRETRAIN_TAG)
    else:
        clip = build_clip(clip_config(node.NAME), None)
    visual = training_backbone(cfg, clip)
    text = ClipText(
        clip, length=node.TEXT_LENGTH, dropout=node.TEXT_DROPOUT, micro_batch=cfg.SOLVER.MICRO_BATCH
    )
    more = {}
    if node.MLM_LOSS_WEIGHT:
        if not isinstance(visual, ViTBackbone):
            raise ValueError(
                f"MODEL.MLM_LOSS_WEIGHT is {node.MLM_LOSS_WEIGHT}; allowed with MODEL.NAME {node.NAME!r}: 0, "
                "because its image tower has no tokens"
            )
        more = masked_word_parts(visual.projected_width, node.MLM_DEPTH, clip.vocab_size)
    model = DualModel(
        visual,
        text,
        log_scale=clip.logit_scale.item(),
        simclr=node.SIMCLR_MLP if node.SS_LOSS_WEIGHT else (),
        num_classes=num_classes if node.ID_LOSS_WEIGHT else 0,
        more=more,
        micro_batch=cfg.SOLVER.MICRO_BATCH,
    )
    if file is not None:
        file.fill(model, file.grid(tuple(cfg.INPUT.SIZE_TRAIN), tuple(node.STRIDE_SIZE)))
        what = "CLIP's weights" if file.info.is_clip else "the text search model"
        _logger.info("Text search by %s starts from %s in %s", node.NAME, what, node.PRETRAIN_PATH)
    if node.FREEZE_TEXT:
        freeze_text(model)
    return model


@as_keys(_TEST_KEYS)
def make_text_search_test_model(cfg: CfgNode) -> tuple[DualModel, TextSearchInfo]:
    """The model in TEST.WEIGHT in evaluation mode, and the facts about it; see `load_text_search_model`.

    Of a text search file, size, stride and text length are adopted where they differ from the configuration.
    """
    path, node = cfg.TEST.WEIGHT, cfg.MODEL
    if not path:
        raise ValueError(
            "TEST.WEIGHT is empty; allowed: the path of a checkpoint, e.g. logs/run/ViT-B-16_5.pth, or of "
            "CLIP's own weights, which are tested as they are (zero-shot)"
        )
    model, info = load_text_search_model(
        path, name=node.NAME, text_length=node.TEXT_LENGTH, **image_facts(cfg)
    )
    if info.card is None:
        _logger.info(
            "%s has no model card: mean %s, std %s and resize %s are the configuration's",
            *(path, info.mean, info.std, info.resize),
        )
    return model, info


def adopt_text_search_card(cfg: CfgNode, given: Collection[str]) -> CfgNode:
    """The configuration with the settings in the model card of TEST.WEIGHT, if there is one, frozen.

    These are how images and texts are prepared. Keys in `given`, those of the command line, stay as they are.
    Each replacement is logged.
    """
    card = read_text_search_card(cfg.TEST.WEIGHT) if cfg.TEST.WEIGHT else None
    if card is None:
        return cfg
    return adopt_values(cfg, {key: getattr(card, field) for field, key in _CARD_KEYS.items()}, given)


def make_text_search_card(
    cfg: CfgNode, model: DualModel, method: str, *, data: str, versions: Mapping[str, str]
) -> TextSearchCard:
    """The card of a model that was made from the configuration and trained by `method` on `data`."""
    node = cfg.MODEL
    return TextSearchCard(
        name=model_label(node.NAME),
        method=method,
        **image_facts(cfg),
        text_length=node.TEXT_LENGTH,
        tokenizer=model.encode_text.tokenizer.name,
        **unseen_facts(clip_config(node.NAME)),
        data=data,
        versions=versions,
    )
