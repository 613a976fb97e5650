"""An optimizer whose state is divided among processes: ZeRO, stage 1 (Rajbhandari et al., SC 2020)."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch.distributed.optim import ZeroRedundancyOptimizer

from utils.distributed import is_first


class ShardedOptimizer(ZeroRedundancyOptimizer):
    """Torch's ZeroRedundancyOptimizer, in the place of any other optimizer.

    Each process updates its share of the parameters, whole ones of about equal size in all, and sends them to
    the others. `param_groups` are those of all parameters, `state` is of this process's.

    Args:
        groups: parameter groups, the same in all processes.
        kind: class of the optimizer that each process has for its share.
        options: settings of that class.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], kind: type[torch.optim.Optimizer], **options: Any
    ) -> None:
        # Not `parameters_as_bucket_view`: the views would be lost when the model moves to its device.
        super().__init__(groups, optimizer_class=kind, **options)
        self.state = self.optim.state

    def state_dict(self) -> dict[str, Any]:
        """In the first process the state of all parameters, on the CPU; in the others that of their share.

        All processes must call it together.
        """
        self.consolidate_state_dict(to=0)
        if not is_first():
            return torch.optim.Optimizer.state_dict(self)
        whole = super().state_dict()
        self._all_state_dicts = []  # or it keeps the state of all others
        return whole

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load this process's share of a state of all parameters, of this class or of `kind`."""
        # Torch's own would leave counts of steps on the CPU, where fused kernels of a GPU do not find them,
        # and in `state` a None for each parameter of others.
        share = {parameter for group in self.optim.param_groups for parameter in group["params"]}
        numbers, parameters = (
            chain.from_iterable(group["params"] for group in groups)
            for groups in (state_dict["param_groups"], self.param_groups)
        )
        own = {number for number, parameter in zip(numbers, parameters, strict=False) if parameter in share}
        state = {number: value for number, value in state_dict["state"].items() if number in own}
        torch.optim.Optimizer.load_state_dict(self, {**state_dict, "state": state})
        self.optim.__setstate__({"state": self.state})
