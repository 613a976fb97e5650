"""What a run is going to do, logged before it begins: epochs, steps, and memory next to what there is."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from processor.engine import Plan, Run
from processor.engine.rehearsal import Blank, StageMemory, count_memory
from utils.distributed import is_first, world_size
from utils.launch import processes_here
from utils.memory import free_memory, own_memory
from utils.text import Lines, one_line

_GB = 1e9
_FULL = 0.9  # of the memory that there is, beyond which a stage is said not to fit
# On the CPU the heap keeps gaps between blocks, and kernels have memory of their own: processes grew by 1.15
# (ResNet-50) to 1.3 times (ViT-B/16) what was counted.
_GAPS = 1.2
_COUNTED = (2, 4)  # parts of a batch in many parts: each part takes its time, and memory grows evenly
_HEADS = (
    "stage",
    "epochs",
    "steps/epoch",
    "steps",
    "images/step",
    "weights",
    "optimizer",
    "rest",
    "in all",
)
_logger = logging.getLogger("transreid")


@dataclass(frozen=True)
class Saving:
    """Settings that lower the memory of a stage: the keys, the batch with them, what they do to a model.

    `part` is how many items of it have activations at a time, 0 for as many as in the rehearsal.
    """

    keys: str
    batch: int
    change: Callable[[nn.Module], None] = lambda model: None
    sharded: bool = False
    part: int = 0


@dataclass(frozen=True)
class Rehearsal:
    """A stage that a run is going to have.

    Args:
        name: of the stage.
        plan: its epochs and the images of a step.
        steps: of an epoch, as far as they are known before; 0 where they are not.
        build: a model and the batch of one process to the stage on blank tensors.
        savings: what lowers its memory, in the order in which it is to be tried.
        without: a part of the stage whose memory is not counted, or ''.
        part: items of a batch that have activations at a time, 0 for all.
    """

    name: str
    plan: Plan
    steps: int
    build: Callable[[nn.Module, int], Blank]
    savings: tuple[Saving, ...]
    without: str = ""
    part: int = 0


def log_outlook(rehearsals: Sequence[Rehearsal], run: Run, *, sharded: bool) -> None:
    """Log epochs, steps and memory of the stages that are left; warn where the memory is not there.

    The first process does, since all have about the same. `sharded`: they divide the optimizer's state. A
    request to stop waits for it.
    """
    left = [rehearsal for rehearsal in rehearsals if rehearsal.name not in run.saver.finished]
    if not is_first() or not left:
        return
    # On the CPU the weights are there already, in what this process holds.
    on_gpu = run.device.type == "cuda"
    held, sharing = (0, 1) if on_gpu else (own_memory(), processes_here())
    there, needs = held + free_memory(run.device) // sharing, {}
    for rehearsal in left:
        memory = _count(rehearsal, run, Saving("", rehearsal.plan.batch_size, sharded=sharded))
        if memory is not None:
            needs[rehearsal.name] = memory
    rows = [_HEADS] + [_row(rehearsal, needs.get(rehearsal.name), held) for rehearsal in left]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    _logger.info("Before the run (memory in GB, about):\n%s", Lines("\n".join(lines)))
    use = "it" if sharing == 1 else f"each of {sharing} processes"
    _logger.info("this %s has %.1f GB for %s", "GPU" if on_gpu else "machine", there / _GB, use)
    for rehearsal in left:
        if rehearsal.without:
            _logger.info("the memory of %s is counted without %s", rehearsal.name, rehearsal.without)
        if rehearsal.name in needs and _total(needs[rehearsal.name], held) > _FULL * there:
            _warn(rehearsal, _total(needs[rehearsal.name], held), run, held, there)


def _count(rehearsal: Rehearsal, run: Run, saving: Saving) -> StageMemory | None:
    """The memory of a stage with these settings; None, with a warning, where it cannot be counted."""
    processes = world_size()

    def count(batch: int) -> StageMemory:
        def build(model: nn.Module) -> Blank:
            saving.change(model)
            return rehearsal.build(model, batch)

        return count_memory(run.model, build, run.precision, processes=processes, sharded=saving.sharded)

    batch = max(saving.batch // processes, 1)
    part = saving.part or rehearsal.part
    try:
        with run.stop.deferred():  # a signal in the middle of torch's own code ends without a word
            if not part or batch <= _COUNTED[1] * part:
                return count(batch)
            few, more = (count(parts * part) for parts in _COUNTED)
        more_parts = (batch / part - _COUNTED[1]) / (_COUNTED[1] - _COUNTED[0])
        step, extraction = (
            last + round(more_parts * (last - first))
            for first, last in ((few.step, more.step), (few.extraction, more.extraction))
        )
        return replace(more, step=step, extraction=extraction)
    # A run can do without, whatever a tower does that tensors without numbers cannot do.
    except Exception as error:
        settings = f" with {saving.keys}" if saving.keys else ""
        _logger.warning("the memory of %s%s is not known: %s", rehearsal.name, settings, one_line(error, 200))
        return None


def _total(memory: StageMemory, held: int) -> int:
    """Bytes at the peak: of a GPU, or of a process that holds so many before, with the weights."""
    return held + round(_GAPS * (memory.peak - memory.weights)) if held else memory.peak


def _row(rehearsal: Rehearsal, memory: StageMemory | None, held: int) -> tuple[str, ...]:
    plan, steps = rehearsal.plan, rehearsal.steps
    cells = (rehearsal.name, plan.epochs, steps, plan.epochs * steps, plan.batch_size)
    parts = (memory.weights, memory.optimizer, memory.rest, _total(memory, held)) if memory else ()
    numbers = [f"{part / _GB:.2f}" for part in parts] or ["-"] * 4
    return (*(each if isinstance(each, str) else f"{each:,}" for each in cells), *numbers)


def _warn(rehearsal: Rehearsal, need: int, run: Run, held: int, there: int) -> None:
    """Warn that a stage will not fit, with the first settings with which it would."""
    best, least = "", need
    for saving in rehearsal.savings:
        memory = _count(rehearsal, run, saving)
        lower = need if memory is None else _total(memory, held)
        if lower < least:
            best, least = saving.keys, lower
        if lower <= _FULL * there:
            break
    advice = f"with {best} about {least / _GB:.2f} GB" if best else "no setting is known that lowers it"
    if best and least > _FULL * there:
        advice += ", which will probably not fit either"
    _logger.warning(
        "%s needs about %.2f GB of memory and will probably not fit: there are %.2f GB; %s",
        *(rehearsal.name, need / _GB, there / _GB, advice),
    )
