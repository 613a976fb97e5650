"""Running means of what a training step reports, read from the device only when they are logged."""

import torch
from torch import Tensor


class Meters:
    """Means by name over the steps of an epoch, weighted by the number of samples.

    Values stay on their device and are summed there, so that a step never waits for the GPU.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._samples = 0

    def update(self, values: dict[str, Tensor], samples: int) -> None:
        """Add scalars of one step over `samples` samples."""
        for name, value in values.items():
            value = value.detach().double() * samples
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._samples += samples

    @property
    def samples(self) -> int:
        """Samples seen so far."""
        return self._samples

    def means(self) -> dict[str, float]:
        """Means so far; this is where the device is waited for."""
        if not self._sums:
            return {}
        stacked = torch.stack(list(self._sums.values())) / self._samples
        return dict(zip(self._sums, stacked.tolist(), strict=True))
