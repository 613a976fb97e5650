"""The batches of an epoch, of which each process of a torch.distributed run takes its share."""

from collections.abc import Iterator, Sequence
from itertools import islice

from torch.utils.data import Sampler

from datasets.pixels.augmentation import AugmentedSampler, Draw


class EpochBatches(Sampler[list[Draw]]):
    """Full batches of `draws`: of the `batch_size` images of each, those of process `rank` in their order.

    Which images form a batch, and how they are drawn, does not depend on the number of processes. The
    remainder that fills no batch is left out: BatchNorm could not take a single image.

    Args:
        draws: of all images of an epoch.
        batch_size: images in a batch, of all processes together.
        group: images that stay in one process (those of an identity).
        rank, world_size: this process, and how many there are.

    Raises ValueError when the processes cannot share a batch equally.
    """

    def __init__(
        self, draws: AugmentedSampler, batch_size: int, *, group: int = 1, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size < 1 or batch_size % (group * world_size):
            unit = f"{group} images per identity" if group > 1 else "images"
            raise ValueError(
                f"IMS_PER_BATCH {batch_size} of {unit} with {world_size} processes, allowed are multiples of "
                f"{group * world_size}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank}, allowed are 0 to {world_size - 1}")
        self.draws, self.batch_size = draws, batch_size
        share = batch_size // world_size
        self._mine = slice(rank * share, (rank + 1) * share)
        self._start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the batches of the next pass, which begins with batch `start` (0 is the first)."""
        self.draws.set_epoch(epoch)
        self._start = start

    def set_pids(self, pids: Sequence[int]) -> None:
        """Draw from these identities of all images, clusters for example; those below 0 are left out."""
        self.draws.set_pids(pids)

    def __len__(self) -> int:
        """Batches of a whole epoch as published logs count them: from the reported length of the sampler.

        Of a `RepeatedSampler` it is also how many there are.
        """
        return -(-len(self.draws) // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        draws = iter(self.draws)
        for number in range(len(self)):
            batch = list(islice(draws, self.batch_size))
            if len(batch) < self.batch_size:
                return
            if number >= self._start:
                yield batch[self._mine]
