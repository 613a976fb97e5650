"""Running means of the values of training steps, read from the device only when they are logged."""

from typing import Any

import torch
from torch import Tensor


class Meters:
    """Means by name over the steps of an epoch, weighted by the number of samples.

    Values stay on their device and are summed there, so a step never waits for the GPU.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weight: Tensor | float = 0.0
        self._samples = 0

    def update(self, values: dict[str, Tensor], samples: int, counts: Tensor | None = None) -> None:
        """Add scalars of one step over `samples` samples, unless `counts`, a boolean scalar, is False."""
        for name, value in values.items():
            value = value.detach().double() * samples
            if counts is not None:
                value = torch.where(counts, value, 0.0)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._weight = self._weight + (samples if counts is None else counts * float(samples))
        self._samples += samples

    @property
    def samples(self) -> int:
        """Samples seen so far, counted or not."""
        return self._samples

    def means(self) -> dict[str, float]:
        """Means so far, NaN if no step counted; waits for the device."""
        if not self._sums:
            return {}
        stacked = torch.stack(list(self._sums.values())) / self._weight
        return dict(zip(self._sums, stacked.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The sums, for `load_state_dict`."""
        sums = {name: value.cpu() for name, value in self._sums.items()}
        return {"sums": sums, "weight": float(self._weight), "samples": self._samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the sums of another one."""
        self._sums = dict(state["sums"])
        self._weight, self._samples = state["weight"], state["samples"]
