"""Multilingual text towers: XLM-R (Conneau et al., ACL 2020) with the heads of AltCLIP and of open_clip.

Modules, initialisation and names are those of `transformers.XLMRobertaModel`; only the order of the work is
ours, as in `blocks`: draws of dropout follow from a seed for each text, and outputs that nobody reads are not
computed.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.tokenizers import SentencePieceTokenizer
from model.towers.dropout import keep_factors
from model.towers.parts import in_parts
from utils.package import require_extra

BEGIN, PAD, END = 0, 1, 2  # token ids, the same in all XLM-Rs
HEAD_WIDTH = 64  # of attention, in all published ones
NORM_EPS = 1e-5
_FIRST_POSITION = PAD + 1  # positions are counted from there, as fairseq does


class XlmSizes(NamedTuple):
    """Sizes of a multilingual tower of `kind`, a key of `MULTILINGUAL`.

    `words` and `positions` are rows of the tables, `inner` is the width between the two layers of the head,
    `projected` that of the features.
    """

    kind: str
    width: int
    layers: int
    heads: int
    mlp_width: int
    words: int
    positions: int
    inner: int
    projected: int

    @property
    def longest(self) -> int:
        """The most tokens of a text, those that begin and end it included."""
        return self.positions - _FIRST_POSITION


class MultilingualText(nn.Module):
    """XLM-R and a head: features (B, P) of tokens (B, n), where id 1 pads.

    Args:
        sizes: of the tower.
        tokenizer: turns texts into tokens of at most `sizes.longest` positions.
        dropout: rate in training, of the hidden states as in BERT; attention has none.
        micro_batch: texts whose activations are held at a time in training; 0 for all.
        recompute_blocks: keep no activations inside layers; the backward pass computes them again.

    Raises ValueError for a tokenizer of longer texts; MissingExtra without transformers.
    """

    encoder_name: str  # of XLM-R in files
    reads_first = False  # of the last layer only the first position is read

    def __init__(
        self,
        sizes: XlmSizes,
        tokenizer: SentencePieceTokenizer,
        *,
        dropout: float = 0.0,
        micro_batch: int = 0,
        recompute_blocks: bool = False,
    ) -> None:
        super().__init__()
        if tokenizer.context_length > sizes.longest:
            raise ValueError(
                f"text_length is {tokenizer.context_length}; allowed with this text tower: up to "
                f"{sizes.longest}"
            )
        self.sizes, self.tokenizer = sizes, tokenizer
        self.dropout, self.micro_batch, self.recompute_blocks = dropout, micro_batch, recompute_blocks
        self.add_module(self.encoder_name, _xlm_roberta(sizes))

    @property
    def heads(self) -> int:
        """Heads of its attention."""
        return self.sizes.heads

    @property
    def _encoder(self) -> Any:
        return getattr(self, self.encoder_name)

    def forward(self, tokens: Tensor, seeds: Tensor | None = None) -> Tensor:
        """Features (B, P) of tokens (B, n), by parts of `micro_batch`.

        Dropout draws from `seeds` (B,), one for each text, or from torch's generator.
        """
        draws = self.training and self.dropout > 0
        if draws and seeds is None:
            seeds = torch.randint(2**62, (len(tokens),)).to(tokens.device)
        return in_parts(self, self._encode, self.micro_batch, tokens, seeds if draws else None)

    def _encode(self, tokens: Tensor, seeds: Tensor | None) -> Tensor:
        is_text = tokens != PAD  # (B, n)
        x = self._embed(tokens, is_text, seeds)
        *others, last = self._encoder.encoder.layer
        looks = is_text[:, None, None]  # (B, 1, 1, n)
        for index, layer in enumerate(others):
            x = self._run(layer, x, looks, seeds, index)
        x = self._run(last, x, looks, seeds, len(others), queries=slice(0, 1) if self.reads_first else None)
        return self._head(x, is_text)

    def _head(self, x: Tensor, is_text: Tensor) -> Tensor:
        """Features (B, P) of hidden states (B, n, W), or (B, 1, W) where only the first is read."""
        raise NotImplementedError

    def _embed(self, tokens: Tensor, is_text: Tensor, seeds: Tensor | None) -> Tensor:
        parts = self._encoder.embeddings
        positions = is_text.cumsum(dim=1) * is_text + PAD
        x = parts.word_embeddings(tokens) + parts.position_embeddings(positions)
        return self._drop(parts.LayerNorm(x + parts.token_type_embeddings.weight[0]), seeds, 0)

    def _run(self, *given: Any, **more: Any) -> Tensor:
        """`_run_layer`, whose inner activations the backward pass works out again where that is wanted."""
        if not (self.recompute_blocks and torch.is_grad_enabled()):
            return self._run_layer(*given, **more)
        recompute: Any = checkpoint
        return recompute(self._run_layer, *given, **more, use_reentrant=False, preserve_rng_state=False)

    def _run_layer(
        self,
        layer: Any,
        x: Tensor,
        looks: Tensor,
        seeds: Tensor | None,
        index: int,
        queries: slice | None = None,
    ) -> Tensor:
        """Output (B, n, W) of a layer for x (B, n, W), or of the positions in `queries`; post-norm."""
        attention, asked = layer.attention, x if queries is None else x[:, queries]
        query, key, value = (
            project(given).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project, given in (
                (attention.self.query, asked),
                (attention.self.key, x),
                (attention.self.value, x),
            )
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=looks)
        attended = attention.output.dense(attended.transpose(1, 2).flatten(2))
        x = attention.output.LayerNorm(self._drop(attended, seeds, 2 * index + 1) + asked)
        wide = layer.output.dense(F.gelu(layer.intermediate.dense(x)))
        return layer.output.LayerNorm(self._drop(wide, seeds, 2 * index + 2) + x)

    def _drop(self, x: Tensor, seeds: Tensor | None, place: int) -> Tensor:
        """Hidden states (B, n, W) after dropout number `place` of a pass."""
        if seeds is None:
            return x
        rows = torch.arange(x.shape[1], device=x.device)
        factors = keep_factors(seeds, rows, x.shape[2], layer=place, heads=1, rate=self.dropout)
        return x * factors[:, 0].to(x.dtype)


class AltClipText(MultilingualText):
    """AltCLIP's tower (Chen et al., Findings of ACL 2023): the first token's state, normed and projected."""

    encoder_name = "roberta"
    reads_first = True

    def __init__(self, sizes: XlmSizes, tokenizer: SentencePieceTokenizer, **settings: Any) -> None:
        super().__init__(sizes, tokenizer, **settings)
        self.pre_LN = nn.LayerNorm(sizes.width, eps=NORM_EPS)
        self.transformation = nn.Linear(sizes.width, sizes.inner)
        self.text_projection = nn.Linear(sizes.inner, sizes.projected, bias=False)

    def _head(self, x: Tensor, is_text: Tensor) -> Tensor:
        return self.text_projection(self.transformation(self.pre_LN(x[:, 0])))


class OpenClipText(MultilingualText):
    """open_clip's tower with XLM-R: the mean of all states, through two layers."""

    encoder_name = "transformer"

    def __init__(self, sizes: XlmSizes, tokenizer: SentencePieceTokenizer, **settings: Any) -> None:
        super().__init__(sizes, tokenizer, **settings)
        self.proj = nn.Sequential(
            nn.Linear(sizes.width, sizes.inner, bias=False),
            nn.GELU(),
            nn.Linear(sizes.inner, sizes.projected, bias=False),
        )

    def _head(self, x: Tensor, is_text: Tensor) -> Tensor:
        share = is_text.unsqueeze(2).to(x.dtype)  # (B, n, 1)
        return self.proj((x * share).sum(dim=1) / share.sum(dim=1))


MULTILINGUAL: dict[str, Callable[..., MultilingualText]] = {
    "altclip": AltClipText,
    "xlm-roberta": OpenClipText,
}
# By which a file's tower is recognised: its word embeddings, and the two layers of its head.
_WORDS = "embeddings.word_embeddings.weight"
_MARKS = {
    "altclip": (f"roberta.{_WORDS}", "transformation.weight", "text_projection.weight"),
    "xlm-roberta": (f"transformer.{_WORDS}", "proj.0.weight", "proj.2.weight"),
}


def multilingual_kind(names: Mapping[str, object], prefix: str) -> str:
    """The kind of multilingual tower behind `prefix` in a file, a key of `MULTILINGUAL`; '' for none."""
    return next((kind for kind, marks in _MARKS.items() if prefix + marks[0] in names), "")


def read_sizes(shape: Mapping[str, tuple[int, ...]], prefix: str, heads: int | None = None) -> XlmSizes:
    """The sizes of the multilingual tower behind `prefix`, with heads of the usual width unless given.

    Raises ValueError where a table is missing or shapes cannot be those of a tower.
    """
    kind = multilingual_kind(shape, prefix)
    words, *head = (prefix + name for name in _MARKS[kind])
    stem = words.removesuffix(_WORDS)
    first = f"{stem}encoder.layer.0.intermediate.dense.weight"
    needed = (words, f"{stem}embeddings.position_embeddings.weight", first, *head)
    for name in needed:
        found = shape.get(name, ())
        if len(found) != 2 or 0 in found:
            raise ValueError(f"{name} is {list(found) or 'missing'}; allowed: two dimensions, none of them 0")
    tables = map(shape.__getitem__, needed)
    (rows, width), (positions, _), (mlp_width, _), (inner, _), (projected, _) = tables
    heads = heads or max(width // HEAD_WIDTH, 1)
    if width % heads:
        raise ValueError(f"{words} is {width} wide; allowed with {heads} heads: multiples of {heads}")
    layers = f"{stem}encoder.layer."
    numbers = {name.removeprefix(layers).partition(".")[0] for name in shape if name.startswith(layers)}
    return XlmSizes(kind, width, len(numbers), heads, mlp_width, rows, positions, inner, projected)


def _xlm_roberta(sizes: XlmSizes) -> nn.Module:
    require_extra("text")
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig(
        vocab_size=sizes.words,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.mlp_width,
        max_position_embeddings=sizes.positions,
        type_vocab_size=1,
        layer_norm_eps=NORM_EPS,
        hidden_dropout_prob=0.0,  # ours draws from seeds
        attention_probs_dropout_prob=0.0,
    )
    return XLMRobertaModel(config, add_pooling_layer=False)
