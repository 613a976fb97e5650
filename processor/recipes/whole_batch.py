"""What the model says of the whole batch, of which each process computes its part."""

from torch import Tensor

from datasets import ImageBatch
from model import ReIDModel, ReIDOutput
from utils.distributed import gather_batch


def whole_output(model: ReIDModel, batch: ImageBatch, *, necks: bool) -> tuple[ReIDOutput, Tensor]:
    """The output for the images of all processes, in their order, with gradients, and their identities.

    Without `necks`, that field of the output is empty.
    """
    output = model(batch.images, batch.camids, batch.viewids)
    projected = gather_batch(output.projected)
    metric = tuple(projected if f is output.projected else gather_batch(f) for f in output.metric)
    logits = tuple(map(gather_batch, output.logits))
    after = tuple(map(gather_batch, output.necks)) if necks else ()
    return ReIDOutput(logits, metric, projected, after), gather_batch(batch.pids)
