"""Names of the tensors in files of models."""

import logging
import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

# Kinds of files in messages, and the programs that read them.
REID = "a re-id checkpoint, which test.py, test_clipreid.py and test_pcl.py read"
TEXT_SEARCH = "a text search model, which test_tbps.py reads"
_logger = logging.getLogger("transreid.model")


class Layout(NamedTuple):
    """Names in files of one kind.

    `what`: the kind in messages. `towers`: prefixes of the image tower and the text tower, if it is read.
    `read`: prefixes of all that a model is built from. `dimensions`: of the tensors that tell the
    architecture, besides those of image towers.
    """

    what: str
    towers: tuple[str, ...]
    read: tuple[str, ...]
    dimensions: Mapping[str, int]


TOWER = "image_encoder."
IMAGE_SIDE = (
    *(TOWER, "bottleneck.", "bottleneck_proj.", "classifier.", "classifier_proj.", "cv_embed"),
    "adapter.",
)
_TEXT_SIDE = ("prompt_learner.", "text_encoder.")
REID_FILE = Layout(
    "re-id checkpoint",
    (TOWER,),
    IMAGE_SIDE,
    {
        "bottleneck.weight": 1,
        "bottleneck_proj.weight": 1,
        "classifier.weight": 2,
        "classifier_proj.weight": 2,
        "cv_embed": 2,
        "adapter.fc.0.weight": 2,
        "adapter.fc.2.weight": 2,
        f"{TOWER}VPT": 2,
    },
)
VISUAL, TEXT = "visual.", "encode_text."
_TEXT_TOWER = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
TEXT_SEARCH_FILE = Layout(
    "text search model",
    (VISUAL, TEXT),
    (VISUAL, TEXT, "logit_scale"),
    {
        f"{VISUAL}proj": 2,
        f"{VISUAL}attnpool.c_proj.weight": 2,
        f"{TEXT}token_embedding.weight": 2,
        f"{TEXT}positional_embedding": 2,
        f"{TEXT}text_projection": 2,
    },
)
# Heads of training in published files; a test has no use for them.
HEADS = (
    *("simclr_mlp.", "classifier.", "mlm_head."),
    *("cross_attn.", "cross_modal_transformer.", "ln_pre_t.", "ln_pre_i.", "ln_post."),
)


def has_text_tower(names: Mapping[str, Tensor]) -> bool:
    """Whether a file has the published names of a text search model."""
    return any(name.startswith(TEXT) for name in names)


def published_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's weights, in OpenAI's names, under those of a text search model."""
    return {f"{TEXT}{key}" if key.startswith(_TEXT_TOWER) else key: value for key, value in weights.items()}


_MULTILINGUAL = {
    "text_model.roberta.": "roberta.",  # AltCLIP's names in transformers
    "text_model.pre_LN.": "pre_LN.",
    "text_model.transformation.": "transformation.",
    "text_projection.": "text_projection.",
    "text.transformer.": "transformer.",  # open_clip's
    "text.proj.": "proj.",
}
_CONSTANTS = (".position_ids", ".token_type_ids")


def split_multilingual(
    weights: Mapping[str, Tensor], path: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The released weights in file `path`: those of the text tower, in our names, and all others.

    Constants of older files are left out; so is XLM-R's own pooler, which no feature depends on, with a line
    in the log.
    """
    text, others, left = {}, {}, []
    for name, value in weights.items():
        old = next((old for old in _MULTILINGUAL if name.startswith(old)), None)
        if old is None:
            others[name] = value
        elif ".pooler." in name:
            left.append(name)
        elif not name.endswith(_CONSTANTS):
            text[f"{TEXT}{_MULTILINGUAL[old]}{name.removeprefix(old)}"] = value
    if left:
        _logger.info("%s: %d entries of XLM-R's pooler are left out, e.g. %s", path, len(left), left[0])
    return text, others


def clip_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The towers of a text search model in OpenAI's names."""
    return {name.removeprefix(TEXT): value for name, value in weights.items()}


def without_heads(weights: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """The towers and the temperature of the text search model in file `path`; the heads are logged."""
    left = {name.partition(".")[0]: None for name in weights if name.startswith(HEADS)}
    if left:
        _logger.info("%s: heads of training are left out: %s", path, ", ".join(left))
    return {name: value for name, value in weights.items() if not name.startswith(HEADS)}


_OF_PROMPT_LEARNING = re.compile(r"^vision_(?=bottleneck|classifier)")  # Multimodal-ReID's files
_TOKENS = {"prompt_learner.ctx": "prompt_learner.cls_ctx"}
_LEFT_OUT = ("logit_scale", "ZS_image_encoder")


def our_names(weights: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """The re-id model in file `path` in our names, which those of Multimodal-ReID's files are translated to.

    Its temperature and frozen teacher are left out. The log counts both.
    """
    left = [name for name in weights if any(part in name for part in _LEFT_OUT)]
    renamed = {
        name: _TOKENS.get(name) or _OF_PROMPT_LEARNING.sub("", name) for name in weights if name not in left
    }
    translated = sum(name != ours for name, ours in renamed.items())
    if not translated:
        return dict(weights)
    _logger.info(
        "%s has the names of Multimodal-ReID: %d entries are renamed, %d left out%s",
        *(path, translated, len(left), f" ({', '.join(left[:3])} …)" if left else ""),
    )
    return {ours: weights[name] for name, ours in renamed.items()}


def image_side(weights: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """The image side of the weights in file `path`; warns of entries that no re-id model has."""
    odd = next((key for key in weights if not key.startswith(IMAGE_SIDE + _TEXT_SIDE)), None)
    if odd is not None:
        _logger.warning("%s: %s and other entries of that kind are not of a re-id model; ignored", path, odd)
    return {key: value for key, value in weights.items() if key.startswith(IMAGE_SIDE)}
