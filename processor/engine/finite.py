"""Training ends at the first number that is not finite, with all that helps to find out why."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from utils.distributed import any_process, gather_objects, is_first
from utils.files import write_atomically

FILE = "bad_step.json"
# The scaler halves its scale at each: from 65536, where it starts, to 1/16.
MOST_SKIPS = 20
_LOST = 1e18
_logger = logging.getLogger("transreid.train")


@dataclass(frozen=True)
class WatchedStep:
    """A step whose numbers are still on the device: `finite` tells whether losses and gradients are."""

    finite: Tensor
    stage: str
    epoch: int
    iteration: int
    losses: Mapping[str, Tensor]
    rates: Sequence[float]
    paths: Sequence[str]


def is_finite(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """Whether a loss and the gradients of all that an optimizer trains are finite, a boolean scalar."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    # The extreme entries: a sum could overflow where no gradient does.
    if loss.is_cuda:  # all in few kernels
        extremes = torch.ops.aten._foreach_norm(gradients, math.inf) if gradients else ()
    else:  # where a norm takes ten times as long
        extremes = [extreme for gradient in gradients for extreme in torch.aminmax(gradient)]
    return torch.stack([each.float() for each in (*extremes, loss.detach())]).isfinite().all()


def not_finite(model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of what is trained or saved and is lost: weights, buffers of the model, moments of the optimizer.

    That is NaN and infinity, and weights of which two have no product in float32.
    """
    tensors: dict[str, Tensor] = dict(model.state_dict(keep_vars=True))
    known = {id(tensor) for tensor in tensors.values()}
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    tensors |= {n: p for n, p in objective.named_parameters() if id(p) in trained - known}
    names = {id(tensor): name for name, tensor in tensors.items()}
    moments = {
        f"{kind} of {names.get(id(parameter), 'a parameter')}": value
        for parameter, state in optimizer.state.items()
        for kind, value in state.items()
        if isinstance(value, Tensor) and value.shape == parameter.shape
    }
    within = {
        name: torch.linalg.vector_norm(tensor.detach(), math.inf) < limit
        for some, limit in ((tensors, _LOST), (moments, math.inf))
        for name, tensor in some.items()
        if tensor.is_floating_point() and tensor.numel()
    }
    good = torch.stack(list(within.values())).tolist() if within else []
    return [name for name, is_good in zip(within, good, strict=True) if not is_good]


class FiniteGuard:
    """Looks at each step when the next one is queued, so that a GPU never waits for it.

    With `skips`, the gradient scaler of float16 leaves out a step that is not finite and lowers its scale; up
    to MOST_SKIPS consecutive skips are tolerated.

    Args:
        output_dir: where `bad_step.json` is written.
        skipped: steps in a row that were left out so far, in earlier epochs too.
    """

    def __init__(self, output_dir: Path, *, skips: bool, skipped: int = 0) -> None:
        self.output_dir = output_dir
        self.skipped = skipped
        self._tolerated = MOST_SKIPS if skips else 0
        self._last: WatchedStep | None = None
        self._judged: WatchedStep  # from the first judgement on
        self._overflowed: list[str] = []

    def watch(self, step: WatchedStep) -> bool:
        """Keep this step; whether the one before must end the training, by `fail` in all processes."""
        bad = self._judge()
        self._last = step
        return bad

    def check(self, written: Callable[[], list[str]]) -> None:
        """Judge the last step now, and then the weights that it has written, by their `not_finite`.

        All processes must ask at the same time. Raises as `fail` does.
        """
        new = self._last is not None
        bad = self._judge()
        self._overflowed = written() if new and not bad else []
        if any_process(bad or bool(self._overflowed))[0]:
            self.fail()

    def _judge(self) -> bool:
        if self._last is None:
            return False
        self._judged = step = self._last
        self._last = None
        if bool(step.finite):
            self.skipped = 0
            return False
        self.skipped += 1
        if self.skipped > self._tolerated:
            return True
        _logger.warning(
            "%s: loss or gradient is not finite, the scaler leaves the step out (%d of %d in a row)",
            _place(step),
            self.skipped,
            self._tolerated,
        )
        return False

    def fail(self) -> NoReturn:
        """Write `bad_step.json` about the step that was judged last; all processes must take part.

        Raises FloatingPointError: which step, its losses and rates, and the file that has its images.
        """
        step = self._judged
        losses = {name: float(value) for name, value in step.losses.items()}
        paths = [path for part in gather_objects(list(step.paths)) for path in part]
        told = ", ".join(f"{name} {value:.6g}" for name, value in losses.items())
        what = "loss or gradient is not finite"
        # Each process may hold other moments.
        overflowed = list(dict.fromkeys(name for part in gather_objects(self._overflowed) for name in part))
        if overflowed:
            names = f"{len(overflowed)} tensors, first {overflowed[0]!r},"
            what = f"after the step {names} are not finite or beyond {_LOST:g}"
        after = f" after {self._tolerated} steps that the scaler left out" if self._tolerated else ""
        path = self.output_dir / FILE
        content = {
            "stage": step.stage,
            "epoch": step.epoch,
            "iteration": step.iteration,
            # JSON has no nan and inf.
            "losses": {n: value if math.isfinite(value) else str(value) for n, value in losses.items()},
            "not_finite_after_step": overflowed,
            "learning_rates": list(step.rates),
            "paths": list(dict.fromkeys(paths)),
        }
        where = f"the images of the step are in {path}"
        if is_first():
            text = json.dumps(content, indent=1) + "\n"
            try:
                write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
            except (OSError, ValueError) as error:
                where = str(error)
        raise FloatingPointError(
            f"{_place(step)}: {what}{after} (losses: {told}; learning rates: "
            f"{', '.join(f'{rate:.3g}' for rate in step.rates)}); {where}"
        )


def _place(step: WatchedStep) -> str:
    return f"{step.stage}, epoch {step.epoch}, iteration {step.iteration}"
