"""Text towers: from tokens, or from word embeddings that prompts consist of, to one feature per text."""

import functools
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import open_clip
from open_clip.transformer import ResidualAttentionBlock, Transformer
from torch import Tensor, nn

from model.tokenizers import ClipTokenizer, Tokenizer
from model.towers.blocks import (
    Between,
    KeysValues,
    keys_values,
    require_plain_blocks,
    run_block,
    walk,
)


class TextTower(Protocol):
    """The parts of a text tower that prompts and objectives use; `width` is W of its word embeddings."""

    tokenizer: Tokenizer
    width: int

    def encode(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, P) of tokens (B, L); `mask` (B, L) is True up to the end of text."""
        ...

    def encode_embedded(self, words: Tensor, ends: Tensor | None = None, *, shared: int = 0) -> Tensor:
        """Features (B, P) of word embeddings (B, n, W) whose texts end at positions `ends` (B,)."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights, as of every module."""
        ...

    def requires_grad_(self, requires_grad: bool) -> object:
        """Let its weights learn, or freeze them, as of every module."""
        ...


class ClipText(nn.Module):
    """CLIP's causal text tower, whose feature is read at the end of text.

    Args:
        clip: the model whose text side is taken over, under its own names.
        token_table: keep the table of word embeddings. Without it only `encode_embedded` works; files of
            two-stage re-id models have no such table.

    `between` is called before each block, see `walk`; tokens that it adds or removes are before the ends of
    the texts. Raises ValueError for a text tower of another kind.
    """

    between: Between | None = None
    token_embedding: nn.Embedding | None
    positional_embedding: nn.Parameter
    transformer: Transformer
    ln_final: nn.Module
    text_projection: nn.Parameter
    may_look: Tensor
    tokenizer: Tokenizer

    def __init__(self, clip: open_clip.CLIP, *, token_table: bool = True) -> None:
        super().__init__()
        if (
            clip.attn_mask is None
            or clip.text_pool_type != "argmax"
            or not isinstance(clip.text_projection, nn.Parameter)
        ):
            raise ValueError("this text tower is not causal or not read at the end of text, as CLIP's is")
        parts: Any = clip
        require_plain_blocks(parts.transformer.resblocks)
        self.token_embedding = parts.token_embedding if token_table else None
        self.positional_embedding = parts.positional_embedding
        self.transformer = parts.transformer
        self.ln_final = parts.ln_final
        self.text_projection = parts.text_projection
        self.register_buffer("may_look", parts.attn_mask == 0, persistent=False)
        self.tokenizer = ClipTokenizer(parts.context_length)
        self.width = parts.token_embedding.embedding_dim

    def encode(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `TextTower`; without `mask` a text ends at its highest token id.

        Raises ValueError for a tower without its token table.
        """
        if self.token_embedding is None:
            raise ValueError("this text tower has no token table; allowed: encode_embedded")
        ends = tokens.argmax(dim=1) if mask is None else mask.sum(dim=1) - 1
        return self.encode_embedded(self.token_embedding(tokens), ends)

    def encode_embedded(self, words: Tensor, ends: Tensor | None = None, *, shared: int = 0) -> Tensor:
        """As `TextTower`; without `ends` the last position is the end of all texts.

        The first `shared` positions, below n and before all ends, are the same in all texts. Attention is
        causal, so the blocks' outputs there are the same too: they are computed once. With `between`, which
        may change them, they are computed for each text.
        """
        x = words + self.positional_embedding[: words.shape[1]].to(words.dtype)
        blocks, shared = self.transformer.resblocks, shared if self.between is None else 0
        earlier = {}
        if shared:
            starts = walk(blocks, x[:1, :shared], functools.partial(self._run, earlier={}))
            earlier = {block: keys_values(block, start) for block, start in starts}
        run = functools.partial(self._run, earlier=earlier)
        final, x = deque(walk(blocks, x[:, shared:], run, self.between), maxlen=1).pop()
        # Only the feature at the end of text is read; `between` may have moved it.
        queries = slice(-1, None) if ends is None else (ends - words.shape[1] + x.shape[1]).unsqueeze(1)
        x = run(final, x, queries=queries)
        return self.ln_final(x[:, 0]) @ self.text_projection

    def _run(
        self,
        block: ResidualAttentionBlock,
        x: Tensor,
        *,
        earlier: dict[ResidualAttentionBlock, KeysValues],
        queries: slice | Tensor | None = None,
    ) -> Tensor:
        before = earlier.get(block)
        past = 0 if before is None else before.keys.shape[2]
        mask = self._causal(past + x.shape[1])[past:]  # (L, past + L)
        if isinstance(queries, Tensor):
            mask = mask[queries].unsqueeze(1)  # (B, 1, Lq, past + L)
        elif queries is not None:
            mask = mask[queries]
        return run_block(block, x, queries=queries, earlier=before, mask=mask)

    def _causal(self, length: int) -> Tensor:
        """Mask (L, L) by which a position looks at itself and those before it."""
        known = self.may_look
        if length > len(known):  # `between` made the text longer
            known = known.new_ones(length, length).tril()
        return known[:length, :length]
