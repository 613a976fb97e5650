"""`python spawning.py PROGRAM …` runs a program whose processes are spawned."""

import multiprocessing
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    multiprocessing.set_start_method("spawn")
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
