"""Files with a multilingual text tower: AltCLIP's, open_clip's with XLM-R, and text search models of them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from model import hugging_face
from model.clip import check_fit, image_tower
from model.files.architecture import describe_towers
from model.files.info import position_name
from model.files.text_search_info import TextSearchInfo, read_text_search_info
from model.multilingual import (
    ALTCLIP,
    KINDS,
    find_model,
    image_config,
    read_altclip_settings,
)
from model.names import TEXT, VISUAL, without_heads
from model.tokenizers import SentencePieceTokenizer
from model.towers.multilingual import MULTILINGUAL, MultilingualText, XlmSizes, multilingual_kind
from utils.hub import CARD, TOKENIZER, WEIGHTS, fetch_weights
from utils.package import require_extra
from utils.weights import split_choice

_OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_NEEDED = "without network, `path` names a folder with the model's "
_FILES = {
    "altclip": f"{WEIGHTS} (or pytorch_model.bin), {CARD} and {TOKENIZER}",
    "xlm-roberta": f"{' (or '.join(_OPEN_CLIP)}) and {TOKENIZER}",
}
_ANY_TAG = ("", "openai")  # no tag, and that of keys that nobody set
_FIRST_LAYER = f"{VISUAL}transformer.resblocks.0.mlp.c_fc.weight"
Weights = dict[str, Tensor]
_logger = logging.getLogger("transreid.model")


def find_tokenizer(path: str | Path) -> Path:
    """The place of the tokenizer's file, next to the weights in `path`."""
    return split_choice(path)[0].with_name(TOKENIZER)


def released_file(name: str, path: str, tag: str = "") -> str:
    """The released weights of a multilingual model: `path`, else AltCLIP's repository or open_clip's `tag`.

    The tokenizer lies next to them. `tag` '' or 'openai', which these models do not have, is the only one.
    Raises FileNotFoundError that says what to fetch, OSError, or ValueError for an unknown tag.
    """
    require_extra("text")  # before gigabytes are fetched
    if name == ALTCLIP or path:
        return _found(find_model(path, name), name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag in _ANY_TAG and len(tags) == 1:
        tag = tags[0]
        _logger.info("%s starts from %s, its only tag", name, tag)
    if tag not in tags:
        raise ValueError(f"tag is {tag!r} for {name}; allowed: {', '.join(tags)}")
    repo = str((open_clip.get_pretrained_cfg(name, tag) or {})["hf_hub"]).strip("/")
    return _found(repo, name, _OPEN_CLIP)


def _found(path: str, name: str, of_repository: Sequence[str] = ()) -> str:
    """The file that `path` stands for, or the first of these of a repository.

    The error says what to bring, and that `path` may name its folder.
    """
    needed = _NEEDED + _FILES[KINDS[name]]
    try:
        file, choice = (fetch_weights(path, of_repository), "") if of_repository else split_choice(path)
    except OSError as error:
        raise type(error)(f"{error}; {needed}") from error
    if file.is_dir():
        raise FileNotFoundError(f"{file} has no weights; {needed}")
    return f"{file}#{choice}" if choice else str(file)


def make_multilingual_text(
    sizes: XlmSizes, tokenizer: SentencePieceTokenizer, **settings: Any
) -> MultilingualText:
    """A tower with random weights; `settings` are those of `MultilingualText`."""
    return MULTILINGUAL[sizes.kind](sizes, tokenizer, **settings)


def read_multilingual(
    weights: Weights, text: Weights, others: Weights, path: str, name: str | None
) -> tuple[Weights, TextSearchInfo, dict[str, Any]]:
    """Weights in our names, facts, and open_clip's description of the image tower in file `path`.

    `weights` are all of the file, a text search model's; where it is a released one, `text` and `others` are
    its parts as `split_multilingual` gives them. `name` is the model's, or that of its image tower. Raises
    ValueError for a file of another kind, or that is not of this model.
    """
    settings, released = None, bool(multilingual_kind(text, TEXT))
    if released:
        if hugging_face.PATCHES in others:
            others, settings = hugging_face.openai_names(others), read_altclip_settings(path)
        weights = others | text
    else:
        weights = without_heads(weights, path)
    info = read_text_search_info(weights, path, is_clip=released)
    kind = multilingual_kind(weights, TEXT)
    if KINDS.get(name or "", kind) != kind:
        raise ValueError(f"path {path} has the text tower of {kind}; name is {name!r}")
    if settings is not None:
        config = settings.config
        info = replace(info, text=settings.text)
    else:
        name, config = _describe_image(info, weights, name)
    if released and name not in (None, "", *KINDS):
        raise ValueError(f"path {path} is a model of its own; allowed as its `name`: {', '.join(KINDS)}")
    info = replace(info, name=name or (info.card.name if info.card else ALTCLIP if kind == "altclip" else ""))
    if info.text is not None:
        _require_fit(weights, info.text, config, path)
    return weights, info, config


def _describe_image(
    info: TextSearchInfo, weights: Mapping[str, Tensor], name: str | None
) -> tuple[str | None, dict[str, Any]]:
    """The name, and the image tower as a model of it has, else as card and shapes say."""
    kind = multilingual_kind(weights, TEXT)
    likely = [name] if name else [each for each, own in KINDS.items() if own == kind]
    for each in likely if info.card is None else ():
        config = image_config(each)
        vision = config["vision_cfg"]
        found = vision["layers"], vision["width"], vision.get("patch_size")
        if found == (info.layers[0], info.width, info.patch[0]):
            return each, config
    config = describe_towers(replace(info, name=""))[1]
    if info.kind == "ViT":
        config["vision_cfg"]["mlp_ratio"] = weights[_FIRST_LAYER].shape[0] / info.width
    if info.card is None:
        _logger.warning(
            "%s has no model card: activation and heads of its towers are assumed to be OpenAI's", info.path
        )
    return name, config


def _require_fit(weights: Weights, sizes: XlmSizes, config: dict[str, Any], path: str) -> None:
    """Raise ValueError for other names or shapes than the described towers have; takes no memory for them."""
    with torch.device("meta"):
        own = {f"{VISUAL}{key}": value for key, value in image_tower(config).state_dict().items()}
        text = make_multilingual_text(sizes, SentencePieceTokenizer("", sizes.words, sizes.longest))
        own |= {f"{TEXT}{key}": value for key, value in text.state_dict().items()}
    left = position_name(weights, VISUAL), "logit_scale"
    mine, theirs = ({key: x for key, x in each.items() if key not in left} for each in (own, weights))
    check_fit(mine, theirs, path)
