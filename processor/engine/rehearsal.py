"""The memory of a stage, counted before it begins, on tensors that have shapes but no numbers."""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from processor.engine.loop import only_trained, train_step
from processor.engine.objective import TrainingBatch
from processor.engine.stage import Stage
from utils.distributed import apart
from utils.memory import LiveBytes
from utils.precision import Precision

_STEPS = 2  # the first one makes the optimizer's state


@dataclass(frozen=True)
class StageMemory:
    """Bytes: weights with buffers, the optimizer's state, and all that is alive at the peaks of the stage.

    The peaks are those of a training step and of an extraction of features, 0 without one. Both include
    weights and state.
    """

    weights: int
    optimizer: int
    step: int
    extraction: int

    @property
    def peak(self) -> int:
        """The higher peak."""
        return max(self.step, self.extraction)

    @property
    def rest(self) -> int:
        """Gradients and activations at the peak."""
        return self.peak - self.weights - self.optimizer


@dataclass(frozen=True)
class Blank:
    """A stage and a batch of it whose tensors have no numbers; `extract` encodes a batch of an evaluation."""

    stage: Stage
    batch: TrainingBatch
    extract: Callable[[], object] | None = None


def count_memory(
    model: nn.Module,
    build: Callable[[nn.Module], Blank],
    precision: Precision,
    *,
    processes: int = 1,
    sharded: bool = False,
) -> StageMemory:
    """Count the memory of the stage that `build` makes of a copy of the model; nothing is computed.

    `precision` is that of the training steps. `processes` share the work, each with the batch that `build`
    gives: DistributedDataParallel then keeps another copy of the gradients. `sharded`: they divide the
    optimizer's state. The model, which is on the CPU, random states and the log stay as they are. Raises what
    torch raises for operations whose shapes depend on numbers.
    """
    from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode  # slow to import

    # Half precision takes as much in either form, and a gradient scaler looks at numbers.
    dtype = torch.float32 if precision.dtype == torch.float32 else torch.bfloat16
    precision, fake, counter = Precision("cpu", dtype), FakeTensorMode(), LiveBytes()
    with FakeCopyMode(fake):
        model = copy.deepcopy(model)
    weights = sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
    counter.ignore(model)
    with fake, counter, apart(), _quiet():
        counter.weights = {parameter.shape for parameter in model.parameters()}
        blank = build(model)
        stage, before = blank.stage, counter.now
        with only_trained(stage):
            for _ in range(_STEPS):
                stage.objective.train()
                counter.peak = counter.now
                train_step(stage, blank.batch, precision)
        gradients = sum(each.grad.nbytes for each in stage.objective.parameters() if each.grad is not None)
        state, step = counter.now - before - gradients, counter.peak
        if blank.extract is not None:
            counter.peak = counter.now
            stage.objective.eval()
            with torch.no_grad():
                blank.extract()
    buckets = gradients if processes > 1 else 0
    kept = state // processes if sharded else state
    always = weights + buckets - (state - kept)
    extraction = 0 if blank.extract is None else always + counter.peak
    return StageMemory(weights, kept, always + step, extraction)


@contextmanager
def _quiet() -> Iterator[None]:
    """No messages below a warning: parts are built that a run builds and logs again."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        yield
    finally:
        logging.disable(before)
