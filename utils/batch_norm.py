"""Batch norms that take the statistics of the batches of all processes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from utils.distributed import sum_of_all, world_size


def synchronise_batch_norms(module: nn.Module, device: torch.device) -> None:
    """Replace the batch norms within a module, in place; parameters, buffers and their names stay.

    On a GPU by torch's SyncBatchNorm, which knows no other device.
    """
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, WholeBatchNorm):
            setattr(module, name, _synchronised(child))
        else:
            synchronise_batch_norms(child, device)


class WholeBatchNorm(_BatchNorm):
    """What SyncBatchNorm is on a GPU, for the CPU; all processes must have batches of the same size."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, …) over all dimensions but C, in training over the processes as well."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        # Statistics in half precision would be too coarse.
        with torch.autocast("cpu", enabled=False):
            return self._normalise(input.float()).to(input.dtype)

    def _normalise(self, input: Tensor) -> Tensor:
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        mean = _mean_of_all(input.mean(axes))
        centred = input - mean.view(shape)
        # Around the common mean: a difference of large squares would lose digits.
        variance = _mean_of_all(centred.square().mean(axes))
        self._follow(mean.detach(), variance.detach(), world_size() * input.numel() // input.shape[1])
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        return normalised * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics, whose variance is the unbiased one."""
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"input of shape {tuple(input.shape)}; allowed: (B, C, …)")


def _synchronised(norm: _BatchNorm) -> WholeBatchNorm:
    synchronised = WholeBatchNorm(norm.num_features, norm.eps, norm.momentum)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(synchronised, name, getattr(norm, name))
    return synchronised.train(norm.training)


def _mean_of_all(values: Tensor) -> Tensor:
    return sum_of_all(values) / world_size()
