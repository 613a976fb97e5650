"""Dropout of attention whose draws follow from a seed for each sample.

torch draws from a generator of the process, so that its masks would depend on how a batch is shared among
processes, cut into parts or recomputed. Here each number follows from (seed, layer, head, row, column), by
the mixing function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
"""

import torch
from torch import Tensor

# Rows and columns are numbered as in a table of this side, so that the length of a batch makes no difference.
_SIDE = 1 << 12
_BITS = 32  # of a number: 64 mixed bits give those of two neighbouring columns
# 64-bit constants of SplitMix64 as signed numbers.
_STEP, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def keep_factors(seeds: Tensor, rows: Tensor, columns: int, *, layer: int, heads: int, rate: float) -> Tensor:
    """Factors (B, heads, R, columns) of attention: 0 with probability `rate`, else 1 / (1 - rate).

    `seeds` (B,) int64 are those of the samples; `rows` (R,) or (B, R) and `columns` say which part of the
    attention of `layer` is wanted.
    """
    rows = rows.expand(len(seeds), -1) if rows.ndim == 1 else rows
    head = layer * heads + torch.arange(heads, device=seeds.device)
    place = (head[:, None] * _SIDE + rows[:, None, :])[..., None] * _SIDE  # (B, heads, R, 1)
    # One number of 64 bits more than an even count needs: code would be compiled for odd and even ones.
    place = place + torch.arange(columns // 2 + 1, device=seeds.device)
    # Not seeds · … + place · _STEP: a compiler would work out the second product without its overflow.
    mixed = _mix((other_seeds(seeds)[:, None, None, None] + place) * _STEP)
    numbers = mixed.view(torch.int32)[..., :columns]  # from -2^31 on
    kept = numbers >= round(rate * (1 << _BITS)) - (1 << (_BITS - 1))
    return kept.float().div_(1 - rate)


def other_seeds(seeds: Tensor) -> Tensor:
    """Seeds (B,) of a second, independent draw."""
    return _mix(seeds + _STEP)


def _mix(x: Tensor) -> Tensor:
    """The numbers mixed, in place."""
    x ^= _shifted(x, 30)
    x *= _FIRST
    x ^= _shifted(x, 27)
    x *= _SECOND
    x ^= _shifted(x, 31)
    return x


def _shifted(x: Tensor, count: int) -> Tensor:
    """x >> count with zeros from the left; torch shifts the sign."""
    return (x >> count).bitwise_and_((1 << (64 - count)) - 1)
