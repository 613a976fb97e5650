"""Sampler that repeats another one to fill an epoch of fixed length."""

import itertools
from collections.abc import Iterator

from torch.utils.data import DistributedSampler, Sampler

from datasets.sampling.identity import RandomIdentitySampler

_NEXT_PASS = 1_000_003  # epochs between the orders of two passes: more than a run has


class RepeatedSampler(Sampler[int]):
    """`length` indices: as many passes over `sampler` as they need, the last one perhaps in part.

    Each pass has an order of its own: pass p (from 0) is that of epoch + 1,000,003 p. Call `set_epoch` before
    each epoch.
    """

    def __init__(self, sampler: RandomIdentitySampler | DistributedSampler, length: int) -> None:
        self.sampler, self.length, self.epoch = sampler, length, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the orders of the next epoch's passes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._passes(), self.length)

    def _passes(self) -> Iterator[int]:
        for number in itertools.count():
            self.sampler.set_epoch(self.epoch + number * _NEXT_PASS)
            yield from self.sampler
