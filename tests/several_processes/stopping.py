"""Runs a program whose first process gets SIGTERM in a step of training: stopping.py 6 train.py [options].

Steps count from 1 over all stages of the run, in this start of the program.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from processor.engine import loop
from tests.processor.running import at_call
from utils.distributed import is_first


def stop(*_):
    if is_first():
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _, number, *sys.argv[:] = sys.argv
    loop.train_step = at_call(int(number), stop, loop.train_step)
    runpy.run_path(sys.argv[0], run_name="__main__")
