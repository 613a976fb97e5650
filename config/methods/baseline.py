"""The one-stage baseline: the image tower and its classifiers, without texts."""

from config import shared
from config.keys import Key, under, unused, words
from config.methods import clipreid
from config.stages import MAIN_STAGE

# Files of one-stage runs have these keys of CLIP-ReID too.
_OF_CLIPREID = ("MODEL.STAGE1_WEIGHT", "MODEL.I2T_LOSS_WEIGHT", "DATASETS.SUBJECT")
_WITH_PROMPTS = {**shared.KEYS, **clipreid.KEYS}

KEYS = {
    **unused({name: _WITH_PROMPTS[name] for name in _OF_CLIPREID}, "one-stage training has no prompts"),
    "MODEL.TEXT": Key("none", "Text side of the model: this method has none.", words("none"), fixed=True),
    **under("SOLVER", MAIN_STAGE),
}
