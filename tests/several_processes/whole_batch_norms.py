"""Batch norms that see the batches of all processes on the CPU, where torch has none.

As a program, runs another one with them: whole_batch_norms.py train.py [options].
"""

import functools
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from torch.nn.modules.batchnorm import _BatchNorm

from processor.engine import loop
from utils import distributed


def synchronise_batch_norms(module, device):
    """Stands in for the function of the same name in utils/distributed.py, where training calls it."""
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.forward = functools.partial(_whole_batch, norm)


def _whole_batch(norm, inputs):
    if not norm.training:
        return type(norm).forward(norm, inputs)
    start = distributed.rank() * len(inputs)
    return type(norm).forward(norm, distributed.gather_batch(inputs))[start : start + len(inputs)]


if __name__ == "__main__":
    loop.synchronise_batch_norms = synchronise_batch_norms
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
