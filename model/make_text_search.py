"""From the configuration to text search models."""

import logging

from yacs.config import CfgNode

from config.errors import as_keys
from model.clip import build_clip, clip_config, load_clip
from model.dual import DualModel
from model.masked_words import masked_word_parts
from model.towers.image import ViTBackbone, make_backbone
from model.towers.text import ClipText

_KEYS = {
    "name": "MODEL.NAME",
    "stride": "MODEL.STRIDE_SIZE",
    "path": "MODEL.PRETRAIN_PATH",
    "tag": "MODEL.PRETRAIN_TAG",
    "recompute_blocks": "SOLVER.GRAD_CHECKPOINT",
    "micro_batch": "SOLVER.MICRO_BATCH",
    "simclr": "MODEL.SIMCLR_MLP",
}
_logger = logging.getLogger("transreid.model")


@as_keys(_KEYS)
def make_text_search_model(cfg: CfgNode, num_classes: int = 0, *, pretrained: bool = True) -> DualModel:
    """The model that training starts from, on the CPU, in training mode.

    Its weights are those of CLIP or of another text search model in MODEL.PRETRAIN_PATH, or CLIP's by
    MODEL.PRETRAIN_TAG, or random (MODEL.PRETRAIN_CHOICE 'none', or not `pretrained`, where others will be
    loaded). `num_classes` are the identities of the classifier, which MODEL.ID_LOSS_WEIGHT needs. Raises
    ValueError or FileNotFoundError for weights that do not fit.
    """
    node = cfg.MODEL
    if pretrained:
        clip = load_clip(node.NAME, node.PRETRAIN_CHOICE, node.PRETRAIN_PATH, node.PRETRAIN_TAG)
    else:
        clip = build_clip(clip_config(node.NAME), None)
    visual = make_backbone(
        clip.visual,
        tuple(cfg.INPUT.SIZE_TRAIN),
        tuple(node.STRIDE_SIZE),
        recompute_blocks=cfg.SOLVER.GRAD_CHECKPOINT,
    )
    if node.FREEZE_PATCHES:
        if visual.patch_projection is not None:
            visual.patch_projection.requires_grad_(False)
        else:
            _logger.warning("MODEL.FREEZE_PATCHES is not used: %s has no patch projection", node.NAME)
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
    return DualModel(
        visual,
        text,
        log_scale=clip.logit_scale.item(),
        simclr=node.SIMCLR_MLP if node.SS_LOSS_WEIGHT else (),
        num_classes=num_classes if node.ID_LOSS_WEIGHT else 0,
        more=more,
        micro_batch=cfg.SOLVER.MICRO_BATCH,
    )
