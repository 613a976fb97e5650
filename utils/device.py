"""Where the work runs: the only place that names a device."""

import torch
from torch import nn


def select_device(kind: str, index: str = "0") -> torch.device:
    """'cuda' means the GPU of that index when there is one, else the CPU; 'cpu' means the CPU.

    The GPU also becomes torch's current one, on which streams and graphs are made. Raises ValueError for
    another kind or an index that is not among the visible GPUs.
    """
    if kind not in ("cuda", "cpu"):
        raise ValueError(f"MODEL.DEVICE is {kind!r}; allowed: 'cuda' (the CPU when there is none), 'cpu'")
    if kind == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if not index.isdigit() or int(index) >= count:
        raise ValueError(f"MODEL.DEVICE_ID is {index!r}; allowed: 0 to {count - 1}, the visible GPUs")
    device = torch.device("cuda", int(index))
    torch.cuda.set_device(device)
    return device


def move_module(module: nn.Module, device: torch.device) -> None:
    """Bring a module to a device, on a GPU in the layout that is fastest there.

    Channels last is fastest for convolutions; on the CPU, torch's batch norm is six times less exact in it.
    """
    module.to(device)
    if device.type == "cuda":
        module.to(memory_format=torch.channels_last)
