"""Loading text search models: files of our own, the published ones, and CLIP's weights as they are."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.transformer import QuickGELU
from torch import Tensor

from model.clip import (
    KNOWN_NAMES,
    check_fit,
    clip_config,
    image_tower,
    load_strictly,
    openai_weights,
    require_clip,
)
from model.dual import DualModel
from model.files.architecture import HEAD_WIDTH, describe_towers, require_heads, unseen_facts
from model.files.card import card_source
from model.files.geometry import adopt_geometry, fit_geometry
from model.files.info import position_name, warn_of_assumptions, warn_of_other_facts
from model.files.multilingual_file import find_tokenizer, make_multilingual_text, read_multilingual
from model.files.text_search_info import WORDS, TextSearchInfo, read_text_search_info
from model.multilingual import find_model
from model.names import (
    HEADS,
    TEXT,
    VISUAL,
    has_text_tower,
    published_names,
    split_multilingual,
    without_heads,
)
from model.tokenizers import SentencePieceTokenizer
from model.towers.image import Backbone, ViTBackbone, grid_size, make_backbone, resize_positions
from model.towers.multilingual import MultilingualText, multilingual_kind
from model.towers.text import ClipText, resize_text_positions
from utils.weights import read_state_dict

_Pair = tuple[int, int]
_RGB = tuple[float, float, float]
_TEXT_POSITIONS = f"{TEXT}positional_embedding"
LOG_SCALE = 2.6592600369327783  # log(1 / 0.07), with which CLIP starts
_logger = logging.getLogger("transreid.model")


class TextSearchFile(NamedTuple):
    """Both towers in a file: `weights` under their published names, `config` as open_clip describes them.

    A multilingual text tower is described by `info.text` instead.
    """

    weights: dict[str, Tensor]
    info: TextSearchInfo
    config: dict[str, Any]

    @property
    def source(self) -> str:
        """The file and the model's name in messages."""
        return f"{self.info.path} (`name` {self.info.name})" if self.info.name else self.info.path

    def towers(
        self, size: _Pair, stride: _Pair, text_length: int
    ) -> tuple[Backbone, ClipText | MultilingualText]:
        """Both towers with random weights; a multilingual one's tokenizer lies next to the file."""
        info = self.info
        if info.text is None:
            clip = open_clip.CLIP(**self.config)
            return make_backbone(clip.visual, size, stride), ClipText(clip, length=text_length)
        stated = info.card.tokenizer_sha256 if info.card else ""
        tokenizer = SentencePieceTokenizer(
            find_tokenizer(info.path), info.text.words, text_length, sha256=stated
        )
        text = make_multilingual_text(info.text, tokenizer)
        return make_backbone(image_tower(self.config), size, stride), text

    def grid(self, size: _Pair, stride: _Pair) -> _Pair:
        """Rows and columns of the file's positions, found with the card or, without one, size and stride."""
        info = self.info
        if info.is_clip:
            return info.clip_grid
        if info.card is not None:
            size, stride = info.card.size, info.card.stride
        size, stride = fit_geometry(info, size, stride)
        return grid_size(size, info.patch, stride)

    def fill(self, model: DualModel, grid: _Pair) -> None:
        """Take towers and temperature over, in place; positions of another grid or length are interpolated.

        `grid` is that of the file's positions. The heads of the model stay as they are. Raises ValueError
        that names the first mismatches.
        """
        own, path = model.state_dict(), self.info.path
        image_positions = position_name(self.weights, VISUAL)
        images = self.weights[image_positions].float()
        if grid != model.visual.grid:
            images = resize_positions(images, model.visual.grid, grid)
            shown = ("{}x{}".format(*each) for each in (grid, model.visual.grid))
            _logger.info("%s: positions of images are resized from %s to %s", path, *shown)
        resized = {image_positions: images}
        if self.info.text is None:
            resized[_TEXT_POSITIONS] = self._text_positions(len(own[_TEXT_POSITIONS]))
        kept = {name: value for name, value in own.items() if name.startswith(HEADS)}
        if "logit_scale" not in self.weights:
            kept["logit_scale"] = own["logit_scale"]
            scale = own["logit_scale"].exp().item()
            _logger.info("%s has no logit_scale: the factor of cosines is %.4g", path, scale)
        load_strictly(model, self.weights | resized | kept, self.source)

    def _text_positions(self, length: int) -> Tensor:
        texts = self.weights[_TEXT_POSITIONS].float()
        if length == len(texts):
            return texts
        path = self.info.path
        _logger.info("%s: positions of texts are resized from %d to %d", path, len(texts), length)
        return resize_text_positions(texts, length)


def load_text_search_model(
    path: str | Path,
    size: _Pair | None = None,
    *,
    name: str | None = None,
    stride: _Pair | None = None,
    text_length: int | None = None,
    mean: _RGB | None = None,
    std: _RGB | None = None,
    resize: str | None = None,
) -> tuple[DualModel, TextSearchInfo]:
    """A text search model in evaluation mode; arguments that are None come from the file's model card.

    CLIP's own weights are taken as well (zero-shot), which is logged. Heads of training are left out.

    Args:
        path: a file of text search in the published form, or one of CLIP that training can start from.
        size: (H, W) of the images; without a card a square by the number of positions, or a common size. A
            file of text search keeps its own, with a warning; CLIP's positions are interpolated.
        name: the model's name for `clip_config`, which CLIP's own weights need. Without it or a card it is
            read from the file name, or else the shapes decide, with OpenAI's QuickGELU and heads 64 wide.
        stride: of the patches; without a card the patch size. As for `size`.
        text_length: positions of the text tower. As for `size`, but a multilingual tower may
            have any number up to its own.
        mean, std: of pixels, for the facts; without a card the published ones, ImageNet's, or CLIP's own.
        resize: 'bilinear' or 'bicubic', for the facts; without a card 'bicubic'.

    Returns the model and the facts about it. Raises FileNotFoundError, or ValueError that names the first
    mismatches when the file has other weights or is of another architecture than `name`.
    """
    file = read_text_search_file(path, name)
    info = file.info
    pixels = {"mean": mean, "std": std, "resize": resize}
    pixels = {key: value for key, value in pixels.items() if value is not None}
    given = {*pixels, *(["size"] if size else []), *(["stride"] if stride else [])}
    if info.card is not None:
        warn_of_other_facts(info, pixels, dict(info.card))
        size, stride = size or info.card.size, stride or info.card.stride
    if info.is_clip:
        _logger.info("%s: CLIP's own weights, not trained for text search (zero-shot)", info.path)
        size, stride = size or info.square, stride or info.patch
        grid, text_length = info.clip_grid, text_length or info.text_length
    else:
        size, stride = adopt_geometry(info, size, stride)
        grid = grid_size(size, info.patch, stride)
        # No weight of a multilingual tower depends on it.
        text_length = (info.text and text_length) or _adopt_length(info, text_length)
    info = replace(info, size=size, stride=stride, text_length=text_length, **pixels)
    if info.card is None and not info.is_clip:
        warn_of_assumptions(info, ("mean", "std", "resize", "size", "stride"), given)
    model = DualModel(*file.towers(size, stride, text_length), log_scale=LOG_SCALE)
    file.fill(model, grid)
    return model.eval(), info


def _adopt_length(info: TextSearchInfo, wanted: int | None) -> int:
    if wanted not in (None, info.text_length):
        _logger.warning(
            "%s: text_length %d adopted from the file instead of %d", info.path, info.text_length, wanted
        )
    return info.text_length


def is_text_search_file(path: str | Path) -> bool:
    """Whether `load_text_search_model` reads a file: one of text search, or CLIP's. Raises as it does."""
    return not read_state_dict(path, KNOWN_NAMES).keys().isdisjoint(KNOWN_NAMES[1:])


def read_text_search_file(path: str | Path, name: str | None = None) -> TextSearchFile:
    """Towers and temperature in a file of text search or of CLIP, for the model `name` of `clip_config`.

    Heads are left out, with a line in the log. Raises FileNotFoundError, or ValueError for a file of another
    kind, or that is not of this model.
    """
    path = find_model(str(path), name)
    weights = read_state_dict(path, KNOWN_NAMES)
    text, others = split_multilingual(weights, str(path))
    if any(multilingual_kind(names, TEXT) for names in (weights, text)):
        return TextSearchFile(*read_multilingual(weights, text, others, str(path), name))
    is_clip = not has_text_tower(weights)
    if not is_clip:
        weights = without_heads(weights, str(path))
    else:
        require_clip(weights, path)
        if not name:
            raise ValueError(f"path {path} is CLIP's own; give the `name` of the model, e.g. 'ViT-B-16'")
        weights = published_names(openai_weights(weights, path, name, clip_config(name)))
    info = read_text_search_info(weights, str(path), is_clip=is_clip)
    if name:
        info, config = replace(info, name=name), clip_config(name)
        _require_stated(info, config)
        config["text_cfg"] = {**config["text_cfg"], "context_length": info.text_length}
    else:
        name, config = describe_towers(info)
        info = replace(info, name=name or (info.card.name if info.card else ""))
        config["text_cfg"] = _text_from_shapes(info, config.get("text_cfg", {}))
    file = TextSearchFile(weights, info, config)
    # Before all else, because the grid of another architecture would be complained about instead; and without
    # memory for it, because a hostile file may have any shapes.
    with torch.device("meta"):
        own = published_names(open_clip.CLIP(**config).state_dict())
    check_fit(_unresized(own), _unresized(weights), file.source)
    return file


def _unresized(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose shapes do not depend on image size; `logit_scale` may be missing."""
    left = position_name(weights, VISUAL), "logit_scale"
    return {key: value for key, value in weights.items() if key not in left}


def _text_from_shapes(info: TextSearchInfo, named: dict[str, Any]) -> dict[str, Any]:
    """The description of the text tower, with the heads of the card, else of the `named` tower or CLIP's."""
    width = info.text_width
    if info.card is not None:
        heads = info.card.text_heads
        if width % heads:
            raise ValueError(f"{card_source(info.path)} has {heads} text_heads; allowed: divisors of {width}")
    elif named.get("width") == width:
        heads = named["heads"]
    else:
        require_heads(info.path, width, HEAD_WIDTH)
        heads = width // HEAD_WIDTH
    facts = {"width": width, "heads": heads, "layers": info.text_layers, "vocab_size": WORDS}
    return {**named, **facts, "context_length": info.text_length}


def _require_stated(info: TextSearchInfo, config: dict[str, Any]) -> None:
    """Raise ValueError where the card states another activation or other heads than the named model has."""
    if info.card is None:
        return
    for fact, own in unseen_facts(config).items():
        stated = getattr(info.card, fact)
        if stated != own:
            raise ValueError(
                f"name {info.name} has {fact} {own}, but `path` {info.path} was trained with {stated}, says "
                f"{card_source(info.path)}"
            )


def tower_facts(model: DualModel) -> dict[str, Any]:
    """The facts about a model's towers that shapes do not show, by their names in model cards.

    Raises as the tokenizer of a multilingual tower does where its file cannot be read.
    """
    image: Any = model.visual
    text = model.encode_text
    has_blocks = isinstance(model.visual, ViTBackbone)
    modules = (module for tower in (text, image) for module in tower.modules())
    return {
        "quick_gelu": any(isinstance(module, QuickGELU) for module in modules),
        "head_width": image.transformer.resblocks[0].attn.head_dim if has_blocks else HEAD_WIDTH,
        "text_heads": text.heads,
        "tokenizer": text.tokenizer.name,
        "tokenizer_sha256": text.tokenizer.sha256,
    }
