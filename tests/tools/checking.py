"""Images and runs of `tools/check_dataset.py` for its tests."""

import numpy as np
from PIL import Image

from tools.check_dataset import main


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(path)
    return path


def run(arguments, capsys):
    """Exit status, lines on stdout; nothing is on stderr."""
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert not err
    return status, out.splitlines()
