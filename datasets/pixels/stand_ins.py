"""Stand-ins for training images that cannot be read: other images of the same identity."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from datasets.records import ImageRecord

MOST_UNREADABLE = 0.01  # of the images
_logger = logging.getLogger("transreid.datasets")


class StandIns:
    """Reads `records`, replacing those that cannot be read; a loader's workers share the list of these.

    The next readable image of the identity stands in, in the order of the records, so that the identities of
    a batch and all random draws stay as they are.
    """

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        self.records = records
        self._unreadable = torch.zeros(len(records), dtype=torch.bool).share_memory_()
        self._of_pid: dict[int, list[int]] = defaultdict(list)
        for index, record in enumerate(records):
            self._of_pid[record.pid].append(index)

    @property
    def unreadable(self) -> int:
        """Images found unreadable so far, by any worker."""
        return int(self._unreadable.sum())

    def decode(self, index: int, decode: Callable[[str], Tensor]) -> tuple[Tensor, ImageRecord]:
        """The image at `index`, decoded by `decode(path)`, or the one that stands in, with its record.

        Raises ValueError when more than 1 % of the images cannot be read, or none of an identity.
        """
        family = self._of_pid[self.records[index].pid]
        place = family.index(index)
        for candidate in family[place:] + family[:place]:
            if self._unreadable[candidate]:
                continue
            record = self.records[candidate]
            try:
                return decode(record.path), record
            except (FileNotFoundError, ValueError) as error:
                self._note(candidate, error)
        raise ValueError(f"no image of {self.records[index].path}'s identity can be read")

    def _note(self, index: int, error: Exception) -> None:
        self._unreadable[index] = True
        count, total = self.unreadable, len(self.records)
        _logger.warning(
            "%s; another image of its identity stands in (%d so far)",
            error,
            count,
        )
        if count > MOST_UNREADABLE * total:
            raise ValueError(
                f"{count} of {total} training images cannot be read, more than {MOST_UNREADABLE:.0%}; "
                f"the last: {error}"
            ) from error
