"""The masked language model of text search: words are left out and predicted from the rest and the image.

Cross-attention from texts to images, blocks, and a head over the vocabulary (IRRA; Jiang, Ye, CVPR 2023,
section 3.3), as TBPS-CLIP tried it.
"""

from collections import OrderedDict
from typing import Any

import torch
from open_clip.transformer import QuickGELU, Transformer
from torch import Tensor, nn

MASK = 49405  # the last merge of CLIP's vocabulary, which published code replaces by <|mask|>
NO_LABEL = -100
_SHARE, _MASKED, _RANDOM = 0.15, 0.8, 0.1  # of words; of the chosen words (BERT; Devlin et al. 2019)
_HEAD_WIDTH = 64


def masked_word_parts(width: int, depth: int, words: int) -> dict[str, nn.Module]:
    """The modules by their published names, for features `width` wide and a vocabulary of `words`.

    Raises ValueError for a width that its heads, one for each 64, do not divide.
    """
    heads = max(width // _HEAD_WIDTH, 1)
    if width % heads:
        raise ValueError(
            f"width is {width}; allowed with {heads} heads of a masked language model: multiples of {heads}"
        )
    attention = nn.MultiheadAttention(width, heads, batch_first=True)
    transformer: Any = Transformer(width, depth, heads, act_layer=QuickGELU, batch_first=True)
    head: Any = nn.Sequential(
        OrderedDict(
            dense=nn.Linear(width, width),
            gelu=QuickGELU(),
            ln=nn.LayerNorm(width),
            fc=nn.Linear(width, words),
        )
    )
    projected, wide = (2 * depth * width) ** -0.5, (2 * width) ** -0.5
    for each in (attention, *(block.attn for block in transformer.resblocks)):
        nn.init.normal_(each.in_proj_weight, std=width**-0.5)
        nn.init.normal_(each.out_proj.weight, std=projected)
    for block in transformer.resblocks:
        nn.init.normal_(block.mlp.c_fc.weight, std=wide)
        nn.init.normal_(block.mlp.c_proj.weight, std=projected)
    nn.init.normal_(head.dense.weight, std=wide)
    nn.init.normal_(head.fc.weight, std=projected)
    norms = {name: nn.LayerNorm(width) for name in ("ln_pre_t", "ln_pre_i", "ln_post")}
    return {"cross_attn": attention, "cross_modal_transformer": transformer, **norms, "mlm_head": head}


def predict_words(parts: Any, texts: Tensor, images: Tensor, wanted: Tensor) -> Tensor:
    """Scores (M, V) of the vocabulary at the M positions where the mask `wanted` (B, n) holds.

    Texts (B, n, P) and images (B, t, P) are features at all positions; `parts` is a module that has the
    `masked_word_parts`.
    """
    images = parts.ln_pre_i(images)
    x = parts.cross_attn(parts.ln_pre_t(texts), images, images, need_weights=False)[0]
    x = parts.ln_post(parts.cross_modal_transformer(x))
    return parts.mlm_head(x[wanted])  # the head is far wider than all else


def mask_words(tokens: Tensor, seeds: Tensor, words: int) -> tuple[Tensor, Tensor]:
    """Tokens (B, n) with some words left out, and labels (B, n): the id of such a word, else `NO_LABEL`.

    Of 15 % of the words, 80 % become `MASK`, 10 % another word of `words` and 10 % stay. Text i draws from
    `seeds[i]`, whatever n is.
    """
    ends = tokens.argmax(dim=1)
    masked, labels = tokens.clone(), torch.full_like(tokens, NO_LABEL)
    for row, (seed, end) in enumerate(zip(seeds.tolist(), ends.tolist(), strict=True)):
        generator, count = torch.Generator().manual_seed(seed), end - 1
        chosen, fate = torch.rand(2, count, generator=generator)
        others = torch.randint(words - 2, (count,), generator=generator)  # the last two begin and end a text
        is_chosen, text = chosen < _SHARE, tokens[row, 1:end]
        labels[row, 1:end] = text.masked_fill(~is_chosen, NO_LABEL)
        new = torch.where(fate < _MASKED, MASK, torch.where(fate < _MASKED + _RANDOM, others, text))
        masked[row, 1:end] = torch.where(is_chosen, new, text)
    return masked, labels
