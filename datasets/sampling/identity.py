"""Identity sampler: batches of P identities with K images each (Hermans et al., arXiv 1703.07737, 2017)."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class RandomIdentitySampler(Sampler[int]):
    """Image indices, batch after batch: P = batch_size // K different identities with K indices each.

    K is `num_instances`. The order depends only on (seed, epoch, pids); call `set_epoch` before each epoch.
    Raises ValueError when batch_size is not a multiple of K or there are fewer than P identities.
    """

    def __init__(self, pids: Sequence[int], batch_size: int, num_instances: int, seed: int) -> None:
        if num_instances < 1 or batch_size < 1 or batch_size % num_instances:
            raise ValueError(
                f"batch_size is {batch_size}; allowed with {num_instances} images of an identity: "
                "positive multiples of that number"
            )
        self.num_instances = num_instances
        self.num_pids = batch_size // num_instances
        self.seed, self.epoch = seed, 0
        self.set_pids(pids)

    def set_pids(self, pids: Sequence[int]) -> None:
        """Use other identities of the images, such as clusters, from the next pass on.

        Images with a number below 0 are left out. Raises ValueError when there are fewer than P identities.
        """
        indices: dict[int, list[int]] = {}
        for index, pid in enumerate(pids):
            if pid >= 0:
                indices.setdefault(pid, []).append(index)
        if len(indices) < self.num_pids:
            raise ValueError(
                f"batch_size is {self.num_pids * self.num_instances}; allowed with {len(indices)} identities "
                f"and {self.num_instances} images of each: up to {len(indices) * self.num_instances}"
            )
        self.indices = [np.array(values) for values in indices.values()]

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        """The reported length Σ max(n, K) − max(n, K) mod K, an upper bound.

        A pass ends when fewer than P identities have images left.
        """
        sizes = (max(len(values), self.num_instances) for values in self.indices)
        return sum(size - size % self.num_instances for size in sizes)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        groups = [self._groups(values, rng) for values in self.indices]
        left = list(range(len(groups)))  # identities with groups left
        while len(left) >= self.num_pids:
            places = rng.choice(len(left), self.num_pids, replace=False)
            for place in places:
                yield from groups[left[place]].pop()
            # From the back, so that the last entry, which fills the gap, has been checked already.
            for place in sorted(places, reverse=True):
                if not groups[left[place]]:
                    left[place] = left[-1]
                    left.pop()

    def _groups(self, indices: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
        """Shuffled indices of one identity in groups of K; the remainder is left out."""
        if len(indices) < self.num_instances:
            indices = rng.choice(indices, self.num_instances)
        count = len(indices) // self.num_instances
        shuffled = rng.permutation(indices)[: count * self.num_instances]
        return shuffled.reshape(count, self.num_instances).tolist()
