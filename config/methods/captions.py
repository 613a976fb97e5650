"""Captions in CLIP-ReID, a stage 0 on images with captions, and finished stages that are found again."""

from dataclasses import replace

from yacs.config import CfgNode

from config.keys import FRACTION, POSITIVE, ZERO_OR_MORE, Key, Keys, Rule, under, with_defaults, words
from config.stages import MAIN_STAGE

_GIVEN = Rule("a file of captions", bool)
_CAPTIONS = ("DATASETS.CAPTIONS", _GIVEN)
_ON = Rule("True or above 0", bool)
_STAGE0 = ("MAX_EPOCHS", POSITIVE)
_NOT_OF_STAGE0 = {
    *("LARGE_FC_LR", "CENTER_LR", "CENTER_LOSS_WEIGHT", "COSINE_MARGIN", "COSINE_SCALE", "ITERS"),
    *("SCHEDULE", "LR_MIN", "WARMUP_EPOCHS", "WARMUP_LR_INIT"),
}


_PUBLISHED = {
    "OPTIMIZER_NAME": "AdamW",
    "BASE_LR": 8e-5,
    "BIAS_LR_FACTOR": 2,
    "STEPS": [40, 60, 80],
    "GAMMA": 0.3,
    "WARMUP_ITERS": 10,
    "WEIGHT_DECAY": 1e-4,
    "WEIGHT_DECAY_BIAS": 1e-4,
    "SCHEDULE_START": 0,
}


def _of_stage0() -> Keys:
    given = with_defaults(MAIN_STAGE, _PUBLISHED)
    keys = {name: replace(key, needs=key.needs or _STAGE0) for name, key in given.items()}
    keys |= {
        "MAX_EPOCHS": replace(
            given["MAX_EPOCHS"],
            default=0,
            comment="Epochs of stage 0, which trains both towers on images with captions. 0: no stage 0.",
            rule=ZERO_OR_MORE,
            needs=_CAPTIONS,
            fixed=True,
        ),
        "IMS_PER_BATCH": replace(
            keys["IMS_PER_BATCH"],
            comment="Images with a caption each in a batch.",
            rule=Rule("2 or more", lambda value: value >= 2),
        ),
        "BASE_LR": replace(
            keys["BASE_LR"],
            comment="Learning rate in the log. The schedule scales the rates of the three parts with it.",
            rule=POSITIVE,
        ),
        "IMAGE_LR": Key(1e-5, "Learning rate of the image tower after warm-up.", POSITIVE, needs=_STAGE0),
        "TEXT_LR": Key(1e-5, "Learning rate of the text tower after warm-up.", POSITIVE, needs=_STAGE0),
        "TOKEN_LR": Key(
            2e-4, "Learning rate of the table of word embeddings after warm-up.", POSITIVE, needs=_STAGE0
        ),
        "TEMPERATURE": Key(
            0.07, "Temperature of the contrast of images and captions.", POSITIVE, needs=_STAGE0
        ),
        "IDENTITY_TARGETS": Key(
            False,
            "The captions of all images of an identity are right for each of them. Published: only the "
            "image's own.",
            needs=_STAGE0,
        ),
    }
    keys = {name: key for name, key in keys.items() if name not in _NOT_OF_STAGE0}
    return keys | {"SCHEDULE": replace(given["SCHEDULE"], comment="The schedule.", rule=words("multistep"))}


KEYS = {
    "DATASETS.CAPTIONS": Key(
        "",
        "File of captions of training images, under ROOT_DIR or absolute: JSON as that of CUHK-PEDES or of "
        "file names with lists of captions, or CSV with the columns path and caption. '': no captions.",
        needs=("SOLVER.STAGE0.MAX_EPOCHS or SOLVER.STAGE1.CAPTIONS or SOLVER.STAGE2.CAPTIONS", _ON),
        fixed=True,
    ),
    **under("SOLVER.STAGE0", _of_stage0()),
    "SOLVER.STAGE1.CAPTIONS": Key(
        False,
        "Match an image that has captions with one of these instead of the prompt; it is drawn anew in each "
        "epoch.",
        needs=_CAPTIONS,
        fixed=True,
    ),
    "SOLVER.STAGE2.CAPTIONS": Key(
        0.0,
        "Probability that the text of an identity is one of its captions, and not its prompt.",
        FRACTION,
        needs=_CAPTIONS,
        fixed=True,
    ),
    "SOLVER.STAGE2.CAPTIONS_EVERY": Key(
        10,
        "Epochs from one drawing of these texts to the next. 0: they are drawn once.",
        ZERO_OR_MORE,
        needs=("SOLVER.STAGE2.CAPTIONS", POSITIVE),
        fixed=True,
    ),
    "MODEL.PROMPT.IN_CAPTIONS": Key(
        False,
        "Put the learned tokens of its identity before the words of a caption, so that stage 1 learns them "
        "there, too.",
        needs=("SOLVER.STAGE1.CAPTIONS or SOLVER.STAGE2.CAPTIONS", _ON),
        fixed=True,
    ),
    "SOLVER.SKIP_FINISHED": Key(
        False,
        "Leave out stages whose final file is in OUTPUT_DIR, with its settings next to it: the latest one is "
        "loaded. A file that does not fit the configuration or the data ends the program.",
    ),
}


def uses_captions(cfg: CfgNode) -> bool:
    """Whether the configuration names captions of training images."""
    return bool(cfg.DATASETS.CAPTIONS)


def check(cfg: CfgNode) -> None:
    """Captions are matched with cached features, and what trains on them has some."""
    stage1, online = cfg.SOLVER.STAGE1, cfg.SOLVER.STAGE1.ONLINE_FEATURES and cfg.MODEL.PROMPT.DEEP_VISION
    if uses_captions(cfg) and stage1.CAPTIONS and online:
        raise ValueError(
            "SOLVER.STAGE1.CAPTIONS is True; allowed with SOLVER.STAGE1.ONLINE_FEATURES: False, because "
            "captions are matched with features that are computed once"
        )
    if uses_captions(cfg) and cfg.MODEL.PROMPT.DEEP_TEXT:
        raise ValueError(
            f"MODEL.PROMPT.DEEP_TEXT is {cfg.MODEL.PROMPT.DEEP_TEXT}; allowed with DATASETS.CAPTIONS: 0, "
            "because deep prompts would take the places of a caption's words"
        )
    if uses_captions(cfg) and stage1.CAPTIONS and stage1.TRAIN_TEXT:
        raise ValueError(
            "SOLVER.STAGE1.TRAIN_TEXT is True; allowed with SOLVER.STAGE1.CAPTIONS: False, because features "
            "of captions are computed once"
        )
    epochs = cfg.SOLVER.STAGE0.MAX_EPOCHS
    if epochs and cfg.MODEL.STAGE1_WEIGHT:
        raise ValueError(
            f"MODEL.STAGE1_WEIGHT is {cfg.MODEL.STAGE1_WEIGHT!r}; allowed with SOLVER.STAGE0.MAX_EPOCHS "
            f"{epochs}: '', because prompts are learned after stage 0"
        )
    if epochs and not uses_captions(cfg):
        raise ValueError(f"SOLVER.STAGE0.MAX_EPOCHS is {epochs}; allowed without DATASETS.CAPTIONS: 0")
