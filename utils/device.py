"""Chooses the device of the work; the only file that names one."""

import warnings

import torch
from torch import Tensor, nn

# Of torch's backward passes: their thread takes a context when it first needs one, and sums of gradients keep
# the stream on which a graph was captured, for which a step waits some microseconds.
_HARMLESS = (
    "Attempting to run cuBLAS, but there was no current CUDA context",
    "The AccumulateGrad node's stream does not match",
)


def select_device(kind: str, index: str = "0") -> torch.device:
    """Return the GPU of that index for kind 'cuda' where there are GPUs, else the CPU.

    The GPU also becomes torch's current one, on which streams and graphs are made. Raises ValueError for
    a kind other than 'cuda' and 'cpu', and for an index that is not among the visible GPUs.
    """
    if kind not in ("cuda", "cpu"):
        raise ValueError(f"kind is {kind!r}; allowed: 'cuda' (the CPU when there is none), 'cpu'")
    if kind == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if not index.isdigit() or int(index) >= count:
        raise ValueError(f"index is {index!r}; allowed: 0 to {count - 1}, the visible GPUs")
    device = torch.device("cuda", int(index))
    torch.cuda.set_device(device)
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message)
    return device


def move_module(module: nn.Module, device: torch.device) -> None:
    """Move a module to a device, on a GPU in the channels-last layout, which is fastest for convolutions.

    Not on the CPU, where torch's batch norm is six times less exact in that layout.
    """
    module.to(device)
    if device.type == "cuda":
        module.to(memory_format=torch.channels_last)


def queue_copy(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on the device, without a wait for the work that is queued there."""
    pinned = tensor.pin_memory() if torch.cuda.is_available() else tensor
    return pinned.to(device, non_blocking=True)
