"""Tokenizers turn texts into token ids; each text tower owns the one that it was trained with."""

from collections.abc import Sequence
from typing import Protocol

import open_clip
import torch
from torch import Tensor


class Tokenizer(Protocol):
    """Texts to token ids of a fixed length; `name` identifies the vocabulary."""

    name: str
    context_length: int

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (B, L), and a mask (B, L) that is True from the first token to the end of text."""
        ...

    def are_cut(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is too long, so that its end has no token."""
        ...


class ClipTokenizer:
    """CLIP's byte pair encoding. Texts that are too long are cut and still end with the end of text."""

    name = "clip_bpe"

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `Tokenizer`: ids are int64, 0 after the end of text."""
        tokens = tokenize_captions(texts, self.context_length)
        # The end of text has the highest id.
        return tokens, torch.arange(self.context_length) <= tokens.argmax(dim=1, keepdim=True)

    def are_cut(self, texts: Sequence[str]) -> list[bool]:
        """As `Tokenizer`."""
        longer = tokenize_captions(texts, self.context_length + 1)  # what is cut has one token more
        return (longer[:, -1] != 0).tolist()


def tokenize_captions(texts: Sequence[str], length: int = 77) -> Tensor:
    """CLIP's token ids (B, length) int64 of B texts: start, byte pairs, end of text, then zeros.

    A longer text keeps its first `length` - 1 tokens and still ends with the end of text.
    """
    return open_clip.tokenize(list(texts), length)


def cut_to_longest(tokens: Tensor) -> Tensor:
    """Tokens (B, n) without the positions after the last end of text, which the highest id marks.

    Attention of CLIP's text tower is causal, so that features stay the same.
    """
    return tokens[:, : int(tokens.argmax(dim=1).max()) + 1]
