"""Facts about a text search file, read from names and shapes: both towers, grid and text length."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from timm.data.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from torch import Tensor

from model.files.card import TextSearchCard, card_source, read_text_search_card
from model.files.info import TowerInfo, position_name, tower_facts
from model.files.shapes import Shapes, check_numbers, check_tower, count_blocks, refused, shapes_of
from model.names import TEXT, TEXT_SEARCH_FILE, VISUAL
from model.tokenizers import ClipTokenizer, SentencePieceTokenizer
from model.towers.multilingual import XlmSizes, multilingual_kind, read_sizes

# Rows of the token table; at its largest id a text ends.
WORDS = 49408
_WORD_TABLE, _TEXT_POSITIONS = f"{TEXT}token_embedding.weight", f"{TEXT}positional_embedding"
_LENGTHS = range(4, 4097)
_USUAL_LENGTH = 77  # of multilingual towers, whose shapes do not show it
_PIXELS = {  # of training
    False: (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),  # as TBPS-CLIP is published
    True: (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
}


@dataclass(frozen=True)
class TextSearchInfo(TowerInfo):
    """Facts about a file with both towers and the model built from it.

    `text_width` and `text_layers` are the text tower's, `text_length` its positions in the model. `is_clip`:
    CLIP's own weights, not trained for text search. `projected_width` is that of the features of both. `text`
    are the sizes of a multilingual text tower, None of CLIP's.
    """

    text_width: int
    text_layers: int
    text_length: int
    is_clip: bool = False
    text: XlmSizes | None = None
    card: TextSearchCard | None = field(default=None, kw_only=True)

    @property
    def clip_grid(self) -> tuple[int, int]:
        """Rows and columns of CLIP's own positions. Raises ValueError where they are no square grid."""
        side = math.isqrt(self.positions)
        if side * side != self.positions:
            raise ValueError(f"{self.path} has {self.positions} positions; allowed for CLIP's own: a square")
        return side, side

    @property
    def square(self) -> tuple[int, int]:
        """The size (H, W) of the square images that have about as many positions, just as many for CLIP."""
        side = math.isqrt(self.positions)
        # CLIP's own ResNet goes down to 1/32 of the image, ours to 1/16.
        scale = 2 if self.is_clip and self.kind == "ResNet" else 1
        return scale * side * self.patch[0], scale * side * self.patch[1]

    @property
    def usual_sizes(self) -> tuple[tuple[int, int], ...]:
        """A square, as in published files, then sizes in common use."""
        return tuple(dict.fromkeys([self.square, *super().usual_sizes]))

    @property
    def overlap(self) -> int | None:
        """Published files have no overlapping patches."""
        return None


def read_text_search_info(weights: dict[str, Tensor], path: str, *, is_clip: bool) -> TextSearchInfo:
    """The facts about file `path` with these towers under their published names, before a model is built.

    Raises ValueError when parts are missing, shapes cannot be those of a model, numbers are not finite, or
    its model card is wrong.
    """
    shape = shapes_of(weights)
    is_vit = f"{VISUAL}class_embedding" in shape
    projection = f"{VISUAL}{'proj' if is_vit else 'attnpool.c_proj.weight'}"
    kind = multilingual_kind(shape, TEXT)
    texts = () if kind else (_WORD_TABLE, _TEXT_POSITIONS)
    needed = (f"{VISUAL}conv1.weight", position_name(shape, VISUAL), projection, *texts)
    missing = [key for key in needed if key not in shape]
    if missing:
        raise ValueError(
            f"{path} is no {TEXT_SEARCH_FILE.what}: {missing[0]} is missing; it holds e.g. "
            f"{', '.join(list(shape)[:3])}"
        )
    check_tower(shape, path, TEXT_SEARCH_FILE._replace(towers=(VISUAL,)) if kind else TEXT_SEARCH_FILE)
    text = _multilingual_facts(shape, path) if kind else _clip_facts(shape, path)
    check_numbers(weights, path, TEXT_SEARCH_FILE)
    mean, std = _PIXELS[is_clip]
    widths = shape[projection] if is_vit else shape[projection][::-1]
    info = TextSearchInfo(
        path=path,
        **tower_facts(shape, VISUAL),
        width=shape[f"{VISUAL}conv1.weight"][0] if is_vit else widths[0],
        projected_width=widths[1],
        **text,
        is_clip=is_clip,
        mean=mean,
        std=std,
        resize="bicubic",
    )
    card = None if is_clip else read_text_search_card(path)
    return info if card is None else _described(info, card)


def _clip_facts(shape: Shapes, path: str) -> dict[str, Any]:
    (words, width), (length, _) = shape[_WORD_TABLE], shape[_TEXT_POSITIONS]
    if words != WORDS:
        allowed = f"{WORDS} rows, the words of CLIP's tokenizer"
        raise refused(path, _WORD_TABLE, (words, width), allowed, TEXT_SEARCH_FILE)
    if length not in _LENGTHS:
        allowed = f"{_LENGTHS[0]} to {_LENGTHS[-1]} rows"
        raise refused(path, _TEXT_POSITIONS, (length, _), allowed, TEXT_SEARCH_FILE)
    return {"text_width": width, "text_layers": count_blocks(shape, TEXT)[0], "text_length": length}


def _multilingual_facts(shape: Shapes, path: str) -> dict[str, Any]:
    try:
        sizes = read_sizes(shape, TEXT)
    except ValueError as error:
        raise ValueError(f"{path} is no {TEXT_SEARCH_FILE.what}: {error}") from error
    return {
        "text_width": sizes.width,
        "text_layers": sizes.layers,
        "text_length": min(_USUAL_LENGTH, sizes.longest),
        "text": sizes,
    }


def _described(info: TextSearchInfo, card: TextSearchCard) -> TextSearchInfo:
    tokenizer = ClipTokenizer.name if info.text is None else SentencePieceTokenizer.name
    if card.tokenizer != tokenizer:
        raise ValueError(f"{card_source(info.path)}: tokenizer is {card.tokenizer}; allowed: {tokenizer}")
    pixels = {"mean": card.mean, "std": card.std, "resize": card.resize}
    if info.text is not None:
        width, heads = info.text.width, card.text_heads
        if width % heads:
            raise ValueError(f"{card_source(info.path)} has {heads} text_heads; allowed: divisors of {width}")
        text = info.text._replace(heads=heads)
        return replace(info, **pixels, text_length=card.text_length, text=text, card=card)
    if card.text_length != info.text_length:
        raise ValueError(
            f"{card_source(info.path)} has text_length {card.text_length}, but {info.path} {info.text_length}"
        )
    return replace(info, **pixels, card=card)
