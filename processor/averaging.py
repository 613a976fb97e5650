"""The mean of a model's states, and a stage that ends with that of its epochs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from processor.engine import Objective, Sign, Stage, Step, TrainingBatch
from utils.precision import Precision


def average_states(states: Sequence[Mapping[str, Tensor]], weights: Tensor) -> dict[str, Tensor]:
    """The sum of float entries times `weights` (one for each state); other entries are those of the last.

    It is what `Averaged` works out epoch by epoch.
    """
    mean = dict(states[-1])
    for name, last in mean.items():
        if last.is_floating_point():
            total = torch.zeros_like(last, dtype=torch.float64)
            for state, weight in zip(states, weights.tolist(), strict=True):
                total += weight * state[name]
            mean[name] = total.to(last.dtype)
    return mean


class _Batches:
    """The loader and the sampler of a stage, which knows whether the batch it gave ends its epoch."""

    def __init__(self, stage: Stage) -> None:
        self.loader, self.sampler = stage.loader, stage.sampler
        self.epoch, self.at_end = 0, False

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.epoch, self.at_end = epoch, False
        self.sampler.set_epoch(epoch, start)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[TrainingBatch]:
        return self._notice_end(iter(self.loader))  # whose workers start now, as the loop expects

    def _notice_end(self, batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
        batch = next(batches, None)
        while batch is not None:
            following = next(batches, None)
            self.at_end = following is None
            yield batch
            batch = following


class Averaged(Objective):
    """An objective whose model ends, after the last epoch, as the weighted mean of its epochs.

    Gaussian weighted aggregation of PromptSRC (Khattak et al., ICCV 2023), section 3.2.2. The mean so
    far is in buffers in float32, so that a resumed run has it, also one with another number of epochs.

    Args:
        objective: what is minimised.
        find: gives the parameters and running statistics that are averaged, where they are now: a model that
            moves to a GPU gets other statistics there.
        weights: (E,), of each epoch.
        batches: tells the epoch and its end.
    """

    def __init__(
        self, objective: Objective, find: Callable[[], Sequence[Tensor]], weights: Tensor, batches: _Batches
    ) -> None:
        super().__init__()
        self.objective, self.batches = objective, batches
        self._weights, self._find = weights.tolist(), find
        for index, tensor in enumerate(find()):
            self.register_buffer(f"mean_{index}", torch.zeros_like(tensor, dtype=torch.float32))

    def prepare(self, precision: Precision) -> None:
        """Prepare the objective."""
        self.objective.prepare(precision)

    def signs(self) -> Sequence[Sign]:
        """Those of the objective."""
        return self.objective.signs()

    def begin_epoch(self, epoch: int) -> None:
        """Begin the objective's epoch."""
        self.objective.begin_epoch(epoch)

    def forward(self, batch: TrainingBatch) -> Step:
        """The objective's step."""
        return self.objective(batch)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the mean at the end of an epoch; after the last one, the model takes it."""
        self.objective.after_step()
        if not self.batches.at_end:
            return
        epoch = self.batches.epoch
        so_far = sum(self._weights[:epoch])
        share = self._weights[epoch - 1] / so_far if so_far else 1.0
        for index, tensor in enumerate(self._find()):
            mean = self.get_buffer(f"mean_{index}")
            mean.lerp_(tensor.to(mean.dtype), share)
            if epoch == len(self._weights):
                tensor.copy_(mean)


def averaged(stage: Stage, model: nn.Module, weights: Tensor) -> Stage:
    """The stage, which ends with the mean of its epochs by `weights` (E,).

    Of the model, what the stage's optimizer trains is averaged, and running statistics of batch norms.
    """
    trained = {id(parameter) for group in stage.optimizer.param_groups for parameter in group["params"]}
    parameters = [parameter for parameter in model.parameters() if id(parameter) in trained]

    def find() -> list[Tensor]:
        return parameters + [buffer for name, buffer in model.named_buffers() if ".running_" in name]

    batches = _Batches(stage)
    objective = Averaged(stage.objective, find, weights, batches)
    return replace(stage, objective=objective, loader=batches, sampler=batches)
