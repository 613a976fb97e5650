"""What the model says of the whole batch, of which each process computed its part."""

from model import ReIDOutput
from utils.distributed import gather_batch


def gather_output(output: ReIDOutput, *, necks: bool) -> ReIDOutput:
    """The output for the images of all processes, in their order, with gradients; `necks` if asked for."""
    projected = gather_batch(output.projected)
    metric = tuple(projected if f is output.projected else gather_batch(f) for f in output.metric)
    logits = tuple(map(gather_batch, output.logits))
    return ReIDOutput(logits, metric, projected, tuple(map(gather_batch, output.necks)) if necks else ())
