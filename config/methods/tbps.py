"""TBPS-CLIP: search by sentence with both towers of CLIP (Cao, Bai, Zeng, Ye, Zhang, AAAI 2024)."""

from dataclasses import replace

from yacs.config import CfgNode

from config import shared
from config.keys import (
    FRACTION,
    ONE_OR_MORE,
    POSITIVE,
    ZERO_OR_MORE,
    Key,
    Rule,
    under,
    with_defaults,
    words,
)
from config.stages import MAIN_STAGE, STAGE
from utils.languages import CODES, is_language

EXAMPLES = """\
  python train_tbps.py --config_file configs/tbps/vit_tbps.yml \\
      DATASETS.NAMES cuhk_pedes DATASETS.ROOT_DIR /path/to/data OUTPUT_DIR logs/cuhk_pedes
  python train_tbps.py --simplified DATASETS.NAMES rstpreid SOLVER.IMS_PER_BATCH 64 SOLVER.MICRO_BATCH 16
  python train_tbps.py --resume --config_file configs/tbps/vit_tbps.yml OUTPUT_DIR logs/cuhk_pedes
  torchrun --nproc_per_node=4 train_tbps.py --config_file configs/tbps/vit_tbps.yml
  python train_tbps.py --config_file config/config.yaml MODEL.PRETRAIN_PATH ViT-B-16.pt  # a published file
  python test_tbps.py --config_file configs/tbps/vit_tbps.yml TEST.WEIGHT path/to/checkpoint_best.pth
"""

_SHARED = (
    *("MODEL.NAME", "MODEL.DEVICE", "MODEL.DEVICE_ID", "MODEL.DIST_TRAIN"),
    *("MODEL.PRETRAIN_CHOICE", "MODEL.PRETRAIN_PATH", "MODEL.PRETRAIN_TAG"),
    *("MODEL.STRIDE_SIZE", "MODEL.FREEZE_PATCHES", "MODEL.POSITION_RESIZE"),
    *("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD", "INPUT.TEST_RESIZE"),
    *("INPUT.ORIENTATION", "DATASETS.CHECK_IMAGES", "DATASETS.DOWNLOAD"),
    "DATALOADER.NUM_WORKERS",
    *("SOLVER.SEED", "SOLVER.AMP", "SOLVER.COMPILE", "SOLVER.MICRO_BATCH", "SOLVER.GRAD_CHECKPOINT"),
    *("SOLVER.SYNC_BN", "SOLVER.SHARD", "SOLVER.DETERMINISTIC", "SOLVER.SAVE_EVERY_MIN", "SOLVER.KEEP"),
    "SOLVER.KEEP_BEST",
    *("TEST.IMS_PER_BATCH", "TEST.WEIGHT", "TEST.AMP", "TEST.FEAT_NORM", "TEST.EVAL_BEFORE_TRAINING"),
    *("TEST.RE_RANKING", "TEST.RERANK_K1", "TEST.RERANK_K2", "TEST.RERANK_LAMBDA", "TEST.FEATURES"),
    *("LOG.TRACKER", "LOG.EXPERIMENT", "LOG.RUN", "LOG.URI", "LOG.CHECKPOINTS"),
    "LOG.PICTURES_EVERY",
    "OUTPUT_DIR",
)
_WEIGHT = Rule("0 (off) or more", ZERO_OR_MORE.holds)
_NITC = ("NITC_LOSS_WEIGHT", POSITIVE)
_CITC, _SS = ("CITC_LOSS_WEIGHT", POSITIVE), ("SS_LOSS_WEIGHT", POSITIVE)
_MIXED = ("MIXGEN", words("ori", "cat"))

_LANGUAGES = Rule(
    CODES, lambda codes: bool(codes) and len({*codes}) == len(codes) and all(map(is_language, codes))
)
_TEXTS = ("altclip", "xlm-roberta-base-ViT-B-32", "xlm-roberta-large-ViT-H-14")

_MODEL = {
    "TEXT": Key(
        "",
        "Text tower: '' (of a CLIP also 'clip') that of MODEL.NAME; or a multilingual one next to the image "
        "tower of MODEL.NAME, whose features must be as wide: 'altclip' (768), open_clip's "
        "'xlm-roberta-base-ViT-B-32' (512) and 'xlm-roberta-large-ViT-H-14' (1024).",
        words("", "clip", *_TEXTS),
        fixed=True,
    ),
    "TEXT_PATH": Key(
        "",
        "Weights of the text tower MODEL.TEXT: a file, a folder with config.json and tokenizer.json, a "
        "repository on the hub. '': the released ones, downloaded.",
        needs=("TEXT", words(*_TEXTS)),
    ),
    "TEXT_LENGTH": Key(
        77,
        "Token positions of the text tower; longer captions are cut. Another number than the file's "
        "interpolates the position embedding of CLIP's tower.",
        Rule("4 or more", lambda value: value >= 4),
        fixed=True,
    ),
    "TEXT_DROPOUT": Key(
        0.05,
        "Dropout in training, of the attention of CLIP's text tower, of the hidden states of a multilingual "
        "one.",
        Rule("0 to below 1", lambda value: 0 <= value < 1),
    ),
    "FREEZE_TEXT": Key(
        False,
        "Do not train the text tower: it has no gradients, optimizer state and dropout.",
        fixed=True,
    ),
    "NITC_LOSS_WEIGHT": Key(1.0, "Weight of the contrastive loss with soft labels (N-ITC).", _WEIGHT),
    "SOFT_LABEL_WEIGHT": Key(
        0.5,
        "N-ITC: share of the model's own predictions in the labels, which it reaches at the end of epoch 1.",
        FRACTION,
        needs=_NITC,
    ),
    "RITC_LOSS_WEIGHT": Key(1.0, "Weight of the reversed contrastive loss (R-ITC).", _WEIGHT),
    "RITC_EPS": Key(
        0.01, "R-ITC: term that keeps the labels above 0.", POSITIVE, needs=("RITC_LOSS_WEIGHT", POSITIVE)
    ),
    "CITC_LOSS_WEIGHT": Key(0.1, "Weight of the cyclic loss (C-ITC).", _WEIGHT),
    "CITC_INMODAL": Key(0.25, "C-ITC: weight of images against texts.", ZERO_OR_MORE, needs=_CITC),
    "CITC_CROSSMODAL": Key(
        0.25, "C-ITC: weight of pairs against their transposes.", ZERO_OR_MORE, needs=_CITC
    ),
    "SS_LOSS_WEIGHT": Key(
        0.4,
        "Weight of the self-supervision of images (SimCLR), which needs two more views of each.",
        _WEIGHT,
        fixed=True,
    ),
    "SIMCLR_MLP": Key(
        [512, 128, 512],
        "SimCLR: widths of the head. The first is the width of the model's features.",
        Rule("whole numbers from 1 on", lambda widths: min(widths) >= 1),
        needs=_SS,
        fixed=True,
    ),
    "SIMCLR_TEMPERATURE": Key(0.1, "SimCLR: divisor of the cosine similarities.", POSITIVE, needs=_SS),
    "MULTI_VIEW": Key(True, "Train N-ITC on a second augmentation of each image, too (MVS).", needs=_NITC),
    "ID_LOSS_WEIGHT": Key(
        0.0, "Weight of the identity loss: one linear classifier for images and texts.", _WEIGHT, fixed=True
    ),
    "MLM_LOSS_WEIGHT": Key(
        0.0,
        "Weight of the masked language model, whose masked captions all losses see.",
        _WEIGHT,
        fixed=True,
    ),
    "MLM_DEPTH": Key(
        4,
        "Masked language model: blocks behind the cross-attention.",
        ONE_OR_MORE,
        needs=("MLM_LOSS_WEIGHT", POSITIVE),
        fixed=True,
    ),
}
_INPUT = {
    "BACK_TRANSLATION": Key(
        0.1,
        "Probability that a training caption is replaced by its back translation, if it has one.",
        FRACTION,
    ),
    "WORD_DELETION": Key(0.05, "Probability that a word of a training caption is left out.", FRACTION),
    "MIXGEN": Key(
        "none",
        "Mixed pairs (MixGen, arXiv 2206.08358): 'ori' averages two images, 'cat' puts them side by side; "
        "the captions follow each other.",
        words("none", "ori", "cat"),
    ),
    "MIXGEN_PROB": Key(0.1, "MixGen: probability that a batch has mixed pairs.", FRACTION, needs=_MIXED),
    "MIXGEN_RATIO": Key(
        0.1,
        "MixGen: share of the batch that is mixed, each with a later pair.",
        Rule("0 to 0.5", lambda value: 0 <= value <= 0.5),
        needs=_MIXED,
    ),
}
_DATASETS = {
    "NAMES": Key(
        "cuhk_pedes",
        "One of cuhk_pedes, icfg_pedes, rstpreid; captions: train_reid.json and test_reid.json as published; "
        "for own captions csv or folder.",
        fixed=True,
        common=True,
    ),
    "IMAGE_DIR": Key(
        "imgs",
        "NAMES captions: folder to which paths are relative, itself relative to ROOT_DIR.",
        needs=("NAMES", words("captions")),
    ),
    "ANNOTATION_DIR": Key(
        "",
        "Folder with train_reid.json and test_reid.json that replace the annotation file of cuhk_pedes, "
        "icfg_pedes or rstpreid. '': the official file.",
        needs=("NAMES", words("cuhk_pedes", "icfg_pedes", "rstpreid", "captions")),
    ),
    "ROOT_DIR": replace(
        shared.KEYS["DATASETS.ROOT_DIR"],
        comment="Folder that holds the data set's folder; for captions, csv and folder the data set itself.",
    ),
    "CSV": replace(shared.KEYS["DATASETS.CSV"], needs=("NAMES", words("csv"))),
    "LANGUAGES": Key(
        [""],
        "Languages of the captions that are trained on, each caption a pair of its own: '' is the column "
        "caption, 'zh' caption_zh (in JSON captions and captions_zh).",
        _LANGUAGES,
        fixed=True,
        any_length=True,
    ),
    "EVAL_SPLIT": Key(
        "test",
        "The split that is evaluated: 'test', or 'val' where the data set has one.",
        words("test", "val"),
        fixed=True,
    ),
}
_SOLVER = {
    **with_defaults(
        {name: MAIN_STAGE[name] for name, key in STAGE.items() if not key.unused},
        {
            "MAX_EPOCHS": 5,
            "OPTIMIZER_NAME": "AdamW",
            "BETAS": [0.9, 0.98],
            "BASE_LR": 1e-4,
            "WEIGHT_DECAY": 0.02,
            "WEIGHT_DECAY_BIAS": 0.0,
            "WEIGHT_DECAY_VECTORS": 0.0,
            "SCHEDULE": "cosine_iterations",
            "LR_MIN": 5e-6,
            "WARMUP_EPOCHS": 1,
            "WARMUP_LR_INIT": 1e-6,
            "CHECKPOINT_PERIOD": 1,
            "LOG_PERIOD": 50,
            "EVAL_PERIOD": 1,
        },
    ),
    "IMS_PER_BATCH": replace(
        STAGE["IMS_PER_BATCH"],
        default=320,
        comment="Pairs of image and caption in a batch, over all processes. Pairs that fill no batch are "
        "left out of an epoch.",
    ),
    "NEW_LR_FACTOR": Key(
        5.0,
        "Factor of the rate of the identity classifier and of the masked language model.",
        POSITIVE,
        needs=("MODEL.ID_LOSS_WEIGHT or MODEL.MLM_LOSS_WEIGHT", POSITIVE),
    ),
    "LAYER_DECAY": Key(
        1.0,
        "Factor of the rate from a block of a tower to the one below, in both towers. The last block has "
        "this factor, embeddings and patches are below the first, projections and heads have the whole rate. "
        "A ResNet has its four stages for blocks.",
        Rule("above 0, up to 1", lambda value: 0 < value <= 1),
        fixed=True,
    ),
    "TEXT_LR_FACTOR": Key(
        1.0,
        "Factor of the rate of the text tower.",
        POSITIVE,
        needs=("MODEL.FREEZE_TEXT", words(False)),
        fixed=True,
    ),
}
_TEST = {
    "LANGUAGES": Key(
        [""],
        "Languages of the captions that are tested, as DATASETS.LANGUAGES; of several each has a row of one "
        "table, and the mean counts.",
        _LANGUAGES,
        fixed=True,
        any_length=True,
    ),
    "DIRECTION": Key(
        "text_to_image",
        "'text_to_image' ranks images for each caption, 'image_to_text' captions for each image.",
        words("text_to_image", "image_to_text"),
        fixed=True,
    ),
}

KEYS = {
    **with_defaults(
        {name: shared.KEYS[name] for name in _SHARED},
        {
            "MODEL.NAME": "ViT-B-16",
            "MODEL.PRETRAIN_CHOICE": "clip",
            "MODEL.FREEZE_PATCHES": True,
            "INPUT.SIZE_TRAIN": [224, 224],
            "INPUT.SIZE_TEST": [224, 224],
            "INPUT.TEST_RESIZE": "bicubic",
            "SOLVER.SEED": 1,
        },
    ),
    **under("MODEL", _MODEL),
    **under("INPUT", _INPUT),
    **under("DATASETS", _DATASETS),
    "DATALOADER.ON_ERROR": Key("raise", "An image that cannot be read ends the run.", words("raise")),
    **under("SOLVER", _SOLVER),
    **under("TEST", _TEST),
}


def check(cfg: CfgNode) -> None:
    """A loss trains both towers and the temperature, as several processes need it."""
    if not (cfg.MODEL.NITC_LOSS_WEIGHT or cfg.MODEL.RITC_LOSS_WEIGHT):
        raise ValueError(
            "MODEL.NITC_LOSS_WEIGHT and MODEL.RITC_LOSS_WEIGHT are 0; allowed: one or both above 0, because "
            "no other loss trains the temperature"
        )
