"""CLIP-ReID: stage 1 learns a prompt for each identity, stage 2 trains the image tower against them."""

from yacs.config import CfgNode

from config.keys import ZERO_OR_MORE, Key, under, unused, with_defaults, words
from config.stages import MAIN_STAGE, STAGE

_PROMPT_STAGE = {
    **with_defaults(STAGE, {"SCHEDULE": "cosine"}),
    **unused({"EVAL_PERIOD": STAGE["EVAL_PERIOD"]}, "stage 1 does not change what is evaluated"),
    "HALF_FEATURES": Key(False, "Keep cached image features in half precision."),
    "TRAIN_TEXT": Key(
        False, "Train CLIP's text tower together with the prompts; published: it is frozen.", fixed=True
    ),
}


def check_start(cfg: CfgNode) -> None:
    """A run starts from one file."""
    if cfg.MODEL.STAGE1_WEIGHT and cfg.MODEL.REID_WEIGHT:
        raise ValueError(
            f"MODEL.REID_WEIGHT is {cfg.MODEL.REID_WEIGHT!r}; allowed with MODEL.STAGE1_WEIGHT: '', because "
            "the image side is that of the stage-1 file"
        )


KEYS = {
    "MODEL.TEXT": Key(
        "prompts",
        "Text side of the model: learned prompts of identities and CLIP's text tower.",
        words("prompts"),
        fixed=True,
    ),
    "MODEL.STAGE1_WEIGHT": Key(
        "",
        "File of a finished stage 1 (`…_stage1_N.pth`), from which stage 2 begins. '': begin with stage 1.",
    ),
    "MODEL.I2T_LOSS_WEIGHT": Key(1.0, "Weight of the image-to-text loss in stage 2.", ZERO_OR_MORE),
    **under("SOLVER.STAGE1", _PROMPT_STAGE),
    **under("SOLVER.STAGE2", MAIN_STAGE),
}
