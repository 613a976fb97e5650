"""The batches of an epoch, shared by the processes of a torch.distributed run."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

from torch.utils.data import Sampler


class Draws(Protocol):
    """A sampler of what is drawn for each item of an epoch, in its order."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of the next pass."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class EpochBatches(Sampler[list[Any]]):
    """The part of process `rank` in each full batch of `draws`.

    The images of a batch and their draws do not depend on the number of processes. A last, smaller batch is
    left out: BatchNorm could not take a single image.

    Args:
        draws: of all images of an epoch.
        batch_size: images in a batch, over all processes.
        group: images that stay in one process (those of an identity).
        rank, world_size: number of this process, and count of processes.

    Raises ValueError when the processes cannot share a batch equally.
    """

    def __init__(
        self, draws: Draws, batch_size: int, *, group: int = 1, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size < 1 or batch_size % (group * world_size):
            unit = f" and {group} images of an identity" if group > 1 else ""
            raise ValueError(
                f"batch_size is {batch_size}; allowed with {world_size} processes{unit}: multiples of "
                f"{group * world_size}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}; allowed: 0 to {world_size - 1}")
        self.draws, self.batch_size = draws, batch_size
        share = batch_size // world_size
        self._mine = slice(rank * share, (rank + 1) * share)
        self._start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the batches of the next pass, which begins with batch `start` (0 is the first)."""
        self.draws.set_epoch(epoch)
        self._start = start

    def __len__(self) -> int:
        """Batches of a whole epoch as published logs count them: from the reported length of the sampler.

        It is exact for a `RepeatedSampler` and a `PairSampler`, else an upper bound.
        """
        return -(-len(self.draws) // self.batch_size)

    def __iter__(self) -> Iterator[list[Any]]:
        draws = iter(self.draws)
        for number in range(len(self)):
            batch = list(islice(draws, self.batch_size))
            if len(batch) < self.batch_size:
                return
            if number >= self._start:
                yield batch[self._mine]
