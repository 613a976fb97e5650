"""Shuffled training pairs, batch by batch, with all that is drawn for them."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from datasets.pixels.pairs import PairDraw

_SEEDS = 2**63


class PairSampler(Sampler[PairDraw]):
    """A `PairDraw` for each of `pairs` pairs in random order; those of a last, incomplete batch are left out.

    With `mix_probability` a batch is mixed (MixGen): into each of its first pairs, `mix_share` of all, goes
    the pair that many places later. The draws depend only on (seed, epoch), not on workers or processes. Call
    `set_epoch` before each epoch. Raises ValueError for fewer pairs than a batch has.
    """

    def __init__(
        self, pairs: int, batch_size: int, seed: int, *, mix_probability: float = 0.0, mix_share: float = 0.0
    ) -> None:
        if pairs < batch_size:
            raise ValueError(
                f"batch_size is {batch_size}; allowed with {pairs} training pairs: up to {pairs}"
            )
        self.pairs, self.batch_size = pairs, batch_size
        self.mix_probability, self.mixed = mix_probability, int(mix_share * batch_size)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the draws of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Pairs of the full batches."""
        return self.pairs // self.batch_size * self.batch_size

    def __iter__(self) -> Iterator[PairDraw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.pairs)[: len(self)].tolist()
        seeds = rng.integers(_SEEDS, size=len(order)).tolist()
        for first in range(0, len(order), self.batch_size):
            places = slice(first, first + self.batch_size)
            batch = [PairDraw(index, seed) for index, seed in zip(order[places], seeds[places], strict=True)]
            if rng.random() < self.mix_probability:
                for place in range(self.mixed):
                    batch[place] = batch[place]._replace(mixed=batch[place + self.mixed])
            yield from batch
