"""From the configuration to text search models and their cards."""

import logging
from collections.abc import Collection, Mapping
from typing import NamedTuple

from torch import nn
from yacs.config import CfgNode

from config.errors import as_keys
from model.clip import (
    KNOWN_NAMES,
    build_clip,
    clip_config,
    image_tower,
    load_clip,
    load_strictly,
    model_label,
)
from model.dual import DualModel
from model.files.card import TextSearchCard, read_text_search_card
from model.files.multilingual_file import find_tokenizer, make_multilingual_text, released_file
from model.files.text_search_file import (
    LOG_SCALE,
    TextSearchFile,
    load_text_search_model,
    read_text_search_file,
    tower_facts,
)
from model.files.text_search_info import TextSearchInfo
from model.freezing import freeze_text
from model.make_model import IMAGE_KEYS, adopt_values, image_facts, training_backbone, warn_of_unused_path
from model.masked_words import masked_word_parts
from model.multilingual import ALTCLIP, KINDS, is_multilingual, read_altclip_settings, text_model_name
from model.names import TEXT, has_text_tower
from model.tokenizers import SentencePieceTokenizer
from model.towers.image import ViTBackbone
from model.towers.multilingual import MultilingualText, XlmSizes
from model.towers.text import ClipText
from utils.notes import reads_weights
from utils.weights import read_state_dict

_KEYS = {
    "name": "MODEL.NAME",
    "stride": "MODEL.STRIDE_SIZE",
    "path": "MODEL.PRETRAIN_PATH",
    "tag": "MODEL.PRETRAIN_TAG",
    "recompute_blocks": "SOLVER.GRAD_CHECKPOINT",
    "micro_batch": "SOLVER.MICRO_BATCH",
    "simclr": "MODEL.SIMCLR_MLP",
    "text_length": "MODEL.TEXT_LENGTH",
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


class _Start(NamedTuple):
    """What training starts from: the towers, and the file that fills both; None where they are filled."""

    image: nn.Module
    text: ClipText | MultilingualText
    log_scale: float
    file: TextSearchFile | None


@as_keys(_KEYS)
def make_text_search_model(cfg: CfgNode, num_classes: int = 0, *, pretrained: bool = True) -> DualModel:
    """The model that training starts from, on the CPU, in training mode.

    Its towers are those of CLIP or of another text search model in MODEL.PRETRAIN_PATH, or CLIP's by
    MODEL.PRETRAIN_TAG, or random (MODEL.PRETRAIN_CHOICE 'none', or not `pretrained`, where others will be
    loaded); its heads are new. MODEL.TEXT puts another text tower next to the image tower. `num_classes` are
    the identities of the classifier, which MODEL.ID_LOSS_WEIGHT needs. Raises ValueError or FileNotFoundError
    for weights that do not fit.
    """
    node = cfg.MODEL
    own = ("", node.NAME) if is_multilingual(node.NAME) else ("", "clip")
    if text_model_name(node.TEXT) not in own:
        start = _joined_start(cfg, pretrained=pretrained)
    elif is_multilingual(node.NAME):
        path = released_file(node.NAME, node.PRETRAIN_PATH, node.PRETRAIN_TAG)
        start = _multilingual_start(cfg, path, pretrained=pretrained)
    else:
        start = _clip_start(cfg, pretrained=pretrained)
    visual = training_backbone(cfg, start.image)
    more = {}
    if node.MLM_LOSS_WEIGHT:
        if not isinstance(visual, ViTBackbone) or not isinstance(start.text, ClipText):
            raise ValueError(
                f"MODEL.MLM_LOSS_WEIGHT is {node.MLM_LOSS_WEIGHT}; allowed with MODEL.NAME {node.NAME!r} and "
                f"MODEL.TEXT {node.TEXT!r}: 0, because it needs an image tower with tokens and CLIP's words"
            )
        more = masked_word_parts(visual.projected_width, node.MLM_DEPTH, start.text.vocabulary)
    model = DualModel(
        visual,
        start.text,
        log_scale=start.log_scale,
        simclr=_simclr_widths(cfg, start, visual.projected_width) if node.SS_LOSS_WEIGHT else (),
        num_classes=num_classes if node.ID_LOSS_WEIGHT else 0,
        more=more,
        micro_batch=cfg.SOLVER.MICRO_BATCH,
    )
    file = start.file
    if file is not None:
        file.fill(model, file.grid(tuple(cfg.INPUT.SIZE_TRAIN), tuple(node.STRIDE_SIZE)))
        released = "CLIP's weights" if file.info.text is None else "the released weights"
        what = released if file.info.is_clip else "the text search model"
        noted = reads_weights("clip" if file.info.is_clip else "text search", file.info.path)
        _logger.info("Text search by %s starts from %s in %s", node.NAME, what, file.info.path, extra=noted)
    if node.FREEZE_TEXT:
        freeze_text(model)
    return model


def _clip_start(cfg: CfgNode, *, pretrained: bool) -> _Start:
    node, file = cfg.MODEL, None
    if pretrained and node.PRETRAIN_CHOICE != "none" and node.PRETRAIN_PATH:
        file = read_text_search_file(node.PRETRAIN_PATH, node.NAME)
    if pretrained and file is None:
        warn_of_unused_path(cfg)
        clip = load_clip(node.NAME, node.PRETRAIN_CHOICE, "", node.PRETRAIN_TAG)
    else:
        clip = build_clip(clip_config(node.NAME), None)
    text = ClipText(
        clip, length=node.TEXT_LENGTH, dropout=node.TEXT_DROPOUT, micro_batch=cfg.SOLVER.MICRO_BATCH
    )
    return _Start(clip.visual, text, clip.logit_scale.item(), file)


def _multilingual_start(cfg: CfgNode, path: str, *, pretrained: bool) -> _Start:
    """Both towers of the file `path`, whose text tower is a multilingual one."""
    node = cfg.MODEL
    wanted = pretrained and node.PRETRAIN_CHOICE != "none"
    described = read_altclip_settings(path) if node.NAME == ALTCLIP and not wanted else None
    if described is not None:
        text, image, file = _multilingual_text(cfg, described.text, path), image_tower(described.config), None
    else:
        file = read_text_search_file(path, node.NAME)
        text, image = _multilingual_text(cfg, file.info.text, path), image_tower(file.config)
    if node.PRETRAIN_CHOICE == "none":
        _logger.info("%s starts from random weights, of the sizes in %s", node.NAME, path)
    return _Start(image, text, LOG_SCALE, file if wanted else None)


def _joined_start(cfg: CfgNode, *, pretrained: bool) -> _Start:
    """The image tower of one model and the text tower of another one."""
    node = cfg.MODEL
    if is_multilingual(node.NAME):
        own = "'' or 'altclip'" if node.NAME == ALTCLIP else f"'' or {node.NAME!r}"
        raise ValueError(
            f"MODEL.TEXT is {node.TEXT!r}; allowed with MODEL.NAME {node.NAME!r}: {own}, its own text tower"
        )
    path = node.PRETRAIN_PATH
    if path and node.PRETRAIN_CHOICE != "none" and has_text_tower(read_state_dict(path, KNOWN_NAMES)):
        return _multilingual_start(cfg, path, pretrained=pretrained)  # joined before
    if pretrained:
        clip = load_clip(node.NAME, node.PRETRAIN_CHOICE, node.PRETRAIN_PATH, node.PRETRAIN_TAG)
    else:
        clip = build_clip(clip_config(node.NAME), None)
    name = text_model_name(node.TEXT)
    with as_keys({"path": "MODEL.TEXT_PATH", "name": "MODEL.TEXT"}):
        path = released_file(name, node.TEXT_PATH)
        file = read_text_search_file(path, name)
    sizes = file.info.text
    width = clip_config(node.NAME)["embed_dim"]
    if sizes is None or sizes.projected != width:
        raise ValueError(
            f"MODEL.TEXT {node.TEXT!r} has features of {sizes and sizes.projected} numbers; allowed with "
            f"MODEL.NAME {node.NAME!r}: {width}"
        )
    text = _multilingual_text(cfg, sizes, path)
    if pretrained:
        own = {key.removeprefix(TEXT): x for key, x in file.weights.items() if key.startswith(TEXT)}
        load_strictly(text, own, path)
        _logger.info("The text tower of %s starts from %s", node.TEXT, path)
    return _Start(clip.visual, text, clip.logit_scale.item(), None)


def _multilingual_text(cfg: CfgNode, sizes: XlmSizes | None, path: str) -> MultilingualText:
    node = cfg.MODEL
    if sizes is None:
        raise ValueError(f"path {path} has CLIP's text tower; name is {node.NAME!r}")
    return make_multilingual_text(
        sizes,
        SentencePieceTokenizer(find_tokenizer(path), sizes.words, node.TEXT_LENGTH),
        dropout=node.TEXT_DROPOUT,
        micro_batch=cfg.SOLVER.MICRO_BATCH,
        recompute_blocks=cfg.SOLVER.GRAD_CHECKPOINT,
    )


def _simclr_widths(cfg: CfgNode, start: _Start, width: int) -> list[int]:
    """MODEL.SIMCLR_MLP; next to a multilingual tower its ends follow the width of the features."""
    widths = list(cfg.MODEL.SIMCLR_MLP)
    if isinstance(start.text, ClipText) or (widths[0], widths[-1]) == (width, width):
        return widths
    followed = [width, *widths[1:-1], width]
    _logger.info("MODEL.SIMCLR_MLP %s becomes %s: features have %d numbers", widths, followed, width)
    return followed


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
    found = "clip" if info.text is None else info.text.kind
    if node.TEXT and found != KINDS.get(text_model_name(node.TEXT), "clip"):
        raise ValueError(f"MODEL.TEXT is {node.TEXT!r}, but the text tower in {path} is of kind {found!r}")
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
        **tower_facts(model),
        data=data,
        versions=versions,
    )
