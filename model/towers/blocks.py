"""CLIP's residual attention block, run for the positions that are read, and the walk over a tower's blocks.

Vaswani et al. 2017, section 3.2, pre-norm as in CLIP (Radford et al. 2021). The modules and their weights are
open_clip's; only the order of the work is ours: one product for queries, keys and values, heads as views, and
rows that nobody reads are not computed.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

_QUICK = 1.702  # of QuickGELU
_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)  # torch 2.7
# between(i, x) -> the tokens (B, L', D) that enter block i in place of x (B, L, D)
Between = Callable[[int, Tensor], Tensor]


class KeysValues(NamedTuple):
    """Keys and values that a block's attention looks at, each (B, heads, L, D / heads)."""

    keys: Tensor
    values: Tensor


def require_plain_blocks(blocks: Iterable[nn.Module]) -> None:
    """Raise ValueError for a block that is not CLIP's own kind, whose parts `run_block` knows."""
    for block in blocks:
        if type(block) is not ResidualAttentionBlock or not block.attn.batch_first:
            raise ValueError(
                f"a transformer block of kind {type(block).__name__}; allowed: CLIP's own, "
                "a residual attention block with the batch first"
            )


def walk(
    blocks: Iterable[Any],
    x: Tensor,
    run: Callable[[ResidualAttentionBlock, Tensor], Tensor],
    between: Between | None = None,
) -> Iterator[tuple[ResidualAttentionBlock, Tensor]]:
    """Yield each block with the tokens (B, L, D) that enter it; the first block's are x.

    `run` computes the output of every block but the last, which is left to the caller: few positions of it
    may be needed. `between` may insert, replace or remove tokens before any block.
    """
    previous = None
    for index, block in enumerate(blocks):
        if previous is not None:
            x = run(previous, x)
        if between is not None:
            x = between(index, x)
        yield block, x
        previous = block


def run_block(
    block: ResidualAttentionBlock,
    x: Tensor,
    *,
    queries: slice | Tensor | None = None,
    earlier: KeysValues | None = None,
    mask: Tensor | None = None,
    factors: Tensor | None = None,
) -> Tensor:
    """Output (B, Lq, D) of a block for tokens (B, L, D); in training with the dropout of its attention.

    Args:
        queries: the positions whose output is computed, a slice or (B, Lq); None for all.
        earlier: keys and values of positions before x, with B or 1 rows: they are looked at as well.
        mask: (Lq, L), (Lq, earlier + L) or such a one for each row, (B, 1, Lq, …); True where a query looks.
        factors: (B, heads, Lq, L), multiplied with the shares of attention, as dropout is.
    """
    normed = block.ln_1(x)
    if queries is None:
        query, key, value = _project(block, normed, 0, 3)
    else:
        x = _choose(x, queries)
        (query,) = _project(block, _choose(normed, queries), 0, 1)
        key, value = _project(block, normed, 1, 3)
    if earlier is not None:
        key, value = (
            _append(before, now) for before, now in zip(earlier, (key, value), strict=True)
        )  # (B, heads, earlier + L, D / heads)
    if factors is None:
        dropout = block.attn.dropout if block.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    else:
        attended = _attend(query, key, value, mask, factors)
    attended = attended.transpose(1, 2).flatten(2)  # (B, Lq, D)
    x = x + block.ls_1(block.attn.out_proj(attended))
    return x + block.ls_2(_run_mlp(block.mlp, block.ln_2(x)))


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, factors: Tensor) -> Tensor:
    """Attention (B, heads, Lq, D / heads) with factors (B, heads, Lq, L) of its shares, in float32."""
    scores = (query * query.shape[-1] ** -0.5 @ key.transpose(2, 3)).float()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return (scores.softmax(dim=3) * factors).to(value.dtype) @ value


def keys_values(block: ResidualAttentionBlock, x: Tensor) -> KeysValues:
    """Keys and values of tokens (B, L, D) in a block."""
    return KeysValues(*_project(block, block.ln_1(x), 1, 3))


def attention_weights(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """Share (B, L, L) of each token (columns) in what a token (rows) of x (B, L, D) gets; mean over heads."""
    query, key, _ = _project(block, block.ln_1(x), 0, 3)
    scores = query.float() @ key.float().transpose(2, 3) * query.shape[-1] ** -0.5
    return scores.softmax(dim=3).mean(dim=1)


def _choose(x: Tensor, positions: slice | Tensor) -> Tensor:
    if isinstance(positions, Tensor):
        # Not take_along_dim, which would be compiled again for each L.
        return x.gather(1, positions.unsqueeze(2).expand(-1, -1, x.shape[2]))
    return x[:, positions]


def _project(block: ResidualAttentionBlock, normed: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
    """Thirds `first` to `last` of queries, keys, values, each (B, heads, L, D / heads), from one product."""
    attention, width = block.attn, normed.shape[-1]
    rows = slice(first * width, last * width)
    packed = F.linear(normed, attention.in_proj_weight[rows], attention.in_proj_bias[rows])
    heads = (part.unflatten(2, (attention.num_heads, -1)) for part in packed.chunk(last - first, dim=2))
    return tuple(part.transpose(1, 2) for part in heads)


def _run_mlp(mlp: Any, x: Tensor) -> Tensor:
    # Exported as plain layers: a product with a factor inside is not quantised to int8 by onnxruntime.
    if not isinstance(mlp.gelu, QuickGELU) or _is_exporting():
        return mlp(x)
    given = x.flatten(0, 1), mlp.c_fc.weight, mlp.c_fc.bias, mlp.c_proj.weight, mlp.c_proj.bias
    output = _QuickMLP.apply(*given) if torch.is_grad_enabled() else _quick_mlp(*given, keep=False)[0]
    return output.unflatten(0, x.shape[:2])


def _quick_mlp(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, *, keep: bool
) -> tuple[Tensor, Tensor]:
    """Two linear layers with QuickGELU between them on rows (N, D), and what enters it if that is to be kept.

    x · sigmoid(q x) = silu(q x) / q: one pass over the widest activations, and the factors go into the
    products.
    """
    wide = torch.addmm(b1, x, w1.T, beta=_QUICK, alpha=_QUICK)
    return torch.addmm(b2, F.silu(wide, inplace=not keep), w2.T, alpha=1 / _QUICK), wide


class _QuickMLP(torch.autograd.Function):
    """`_quick_mlp` whose backward pass works out the activations again instead of keeping them.

    The factors of both products cancel there.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        output, wide = _quick_mlp(x, w1, b1, w2, b2, keep=True)
        ctx.save_for_backward(x.to(wide.dtype) if ctx.needs_input_grad[1] else None, wide, w1, w2)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, wide, *weights = ctx.saved_tensors
        w1, w2 = (weight.to(grad.dtype) for weight in weights)  # autocast does not reach here
        to_x, to_w1, to_b1, to_w2, to_b2 = ctx.needs_input_grad
        inner = torch.ops.aten.silu_backward(grad @ w2, wide)
        return (
            inner @ w1 if to_x else None,
            inner.T @ x if to_w1 else None,
            inner.sum(dim=0) if to_b1 else None,
            torch.addmm(w2, grad.T, F.silu(wide), beta=0, alpha=1 / _QUICK) if to_w2 else None,
            grad.sum(dim=0) if to_b2 else None,
        )


def _append(before: Tensor, now: Tensor) -> Tensor:
    return torch.cat([before.expand(now.shape[0], -1, -1, -1).to(now.dtype), now], dim=2)
