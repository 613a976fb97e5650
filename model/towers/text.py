"""Text towers: from tokens, or from word embeddings that prompts consist of, to one feature per text."""

import functools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import open_clip
import torch
import torch.nn.functional as F
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
from model.towers.dropout import keep_factors
from model.towers.parts import in_parts


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


class InPlace(ABC):
    """A hook `between` that puts tokens in the place of others, the same in all texts."""

    @abstractmethod
    def __call__(self, index: int, x: Tensor, start: int = 0) -> Tensor:
        """The tokens that enter block `index` in place of x (B, L, W), those at positions from `start` on."""


def resize_text_positions(positions: Tensor, length: int) -> Tensor:
    """Resize a position embedding (L, W) to (length, W): first and last row kept, linear between them."""
    if len(positions) == length:
        return positions
    between = positions[1:-1].T[None]  # (1, W, L - 2)
    between = F.interpolate(between, size=length - 2, mode="linear", align_corners=False)[0].T
    return torch.cat([positions[:1], between, positions[-1:]])


class ClipText(nn.Module):
    """CLIP's causal text tower, whose feature is read at the end of text.

    Args:
        clip: the model whose text side is taken over, under its own names.
        token_table: keep the table of word embeddings. Without it only `encode_embedded` works; files of
            two-stage re-id models have no such table.
        length: positions L; None is the model's own number. Another number interpolates their embedding.
        dropout: rate of the dropout of attention in training.
        micro_batch: texts whose activations are held at a time in training; 0 for all.

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

    def __init__(
        self,
        clip: open_clip.CLIP,
        *,
        token_table: bool = True,
        length: int | None = None,
        dropout: float = 0.0,
        micro_batch: int = 0,
    ) -> None:
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
        length = int(length or parts.context_length)
        self.positional_embedding = nn.Parameter(
            resize_text_positions(parts.positional_embedding.detach(), length)
        )
        self.transformer = parts.transformer
        self.ln_final = parts.ln_final
        self.text_projection = parts.text_projection
        may_look = torch.ones(length, length, dtype=torch.bool).tril()
        self.register_buffer("may_look", may_look, persistent=False)
        self.tokenizer = ClipTokenizer(length)
        self.width = parts.token_embedding.embedding_dim
        self.dropout, self.micro_batch = dropout, micro_batch

    @property
    def heads(self) -> int:
        """Heads of its attention."""
        first: Any = self.transformer.resblocks[0]
        return first.attn.num_heads

    @property
    def vocabulary(self) -> int:
        """Rows of the table of word embeddings, 0 without it."""
        return self.token_embedding.num_embeddings if self.token_embedding is not None else 0

    def forward(self, tokens: Tensor, seeds: Tensor | None = None) -> Tensor:
        """Features (B, P) of tokens (B, n), n up to L, by parts of `micro_batch`.

        A text ends at its highest id. Dropout draws from `seeds` (B,), one for each text, or from torch's
        generator.
        """
        return self._by_parts(self._encode, tokens, seeds)

    def encode_tokens(self, tokens: Tensor, seeds: Tensor | None = None) -> Tensor:
        """Features (B, n, P) at all positions of tokens (B, n), else as forward."""
        return self._by_parts(self._encode_all, tokens, seeds)

    def _by_parts(self, encode: Callable[..., Tensor], tokens: Tensor, seeds: Tensor | None) -> Tensor:
        if self.training and self.dropout and seeds is None:
            seeds = torch.randint(2**62, (len(tokens),)).to(tokens.device)
        return in_parts(self, encode, self.micro_batch, tokens, seeds)

    def encode(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `TextTower`, without dropout; without `mask` a text ends at its highest token id.

        Raises ValueError for a tower without its token table.
        """
        ends = None if mask is None else mask.sum(dim=1) - 1
        return self._encode(tokens, ends=ends)

    def _encode_all(self, tokens: Tensor, seeds: Tensor | None) -> Tensor:
        x = self._embed(tokens)
        run = functools.partial(self._run, earlier={}, seeds=seeds)
        final, x = deque(walk(self.transformer.resblocks, x, run, self.between), maxlen=1).pop()
        return self.ln_final(run(final, x)) @ self.text_projection

    def _encode(self, tokens: Tensor, seeds: Tensor | None = None, ends: Tensor | None = None) -> Tensor:
        ends = tokens.argmax(dim=1) if ends is None else ends
        return self._read_end(self._embed(tokens), ends, seeds=seeds)

    def _embed(self, tokens: Tensor) -> Tensor:
        if self.token_embedding is None:
            raise ValueError("this text tower has no token table; allowed: encode_embedded")
        return self._at_positions(self.token_embedding(tokens))

    def _at_positions(self, words: Tensor) -> Tensor:
        return words + self.positional_embedding[: words.shape[1]].to(words.dtype)

    def encode_embedded(self, words: Tensor, ends: Tensor | None = None, *, shared: int = 0) -> Tensor:
        """As `TextTower`; without `ends` the last position is the end of all texts.

        The first `shared` positions, below n and before all ends, are the same in all texts. Attention is
        causal, so the blocks' outputs there are the same too: they are computed once. With a hook `between`
        that may change them they are computed for each text.
        """
        return self._read_end(self._at_positions(words), ends, shared=shared)

    def _read_end(
        self, x: Tensor, ends: Tensor | None, *, shared: int = 0, seeds: Tensor | None = None
    ) -> Tensor:
        length = x.shape[1]
        blocks, between, earlier = self.transformer.resblocks, self.between, {}
        if isinstance(between, InPlace):
            between = functools.partial(between, start=shared)
        elif between is not None:
            shared = 0
        if shared:
            starts = walk(blocks, x[:1, :shared], functools.partial(self._run, earlier={}), self.between)
            earlier = {block: keys_values(block, start) for block, start in starts}
        run = functools.partial(self._run, earlier=earlier, seeds=seeds)
        final, x = deque(walk(blocks, x[:, shared:], run, between), maxlen=1).pop()
        # Only the feature at the end of text is read; `between` may have moved it.
        queries = slice(-1, None) if ends is None else (ends - length + x.shape[1]).unsqueeze(1)
        x = run(final, x, queries=queries)
        return self.ln_final(x[:, 0]) @ self.text_projection

    def _run(
        self,
        block: ResidualAttentionBlock,
        x: Tensor,
        *,
        earlier: dict[ResidualAttentionBlock, KeysValues],
        queries: slice | Tensor | None = None,
        seeds: Tensor | None = None,
    ) -> Tensor:
        before = earlier.get(block)
        past = 0 if before is None else before.keys.shape[2]
        mask = self._causal(past + x.shape[1])[past:]  # (L, past + L)
        if isinstance(queries, Tensor):
            mask = mask[queries].unsqueeze(1)  # (B, 1, Lq, past + L)
        elif queries is not None:
            mask = mask[queries]
        factors = None if seeds is None else self._factors(block, x.shape[1], queries, seeds)
        return run_block(block, x, queries=queries, earlier=before, mask=mask, factors=factors)

    def _factors(
        self, block: ResidualAttentionBlock, length: int, queries: slice | Tensor | None, seeds: Tensor
    ) -> Tensor | None:
        """Dropout of a block's attention for texts with these seeds (B,), in training."""
        if not (self.training and self.dropout):
            return None
        rows = torch.arange(length, device=seeds.device)
        rows = queries if isinstance(queries, Tensor) else rows if queries is None else rows[queries]
        layer = next(i for i, each in enumerate(self.transformer.resblocks) if each is block)
        heads = block.attn.num_heads
        return keep_factors(seeds, rows, length, layer=layer, heads=heads, rate=self.dropout)

    def _causal(self, length: int) -> Tensor:
        """Mask (L, L) by which a position looks at itself and those before it."""
        known = self.may_look
        if length > len(known):  # `between` made the text longer
            known = known.new_ones(length, length).tril()
        return known[:length, :length]
