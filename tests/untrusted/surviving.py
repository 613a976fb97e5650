"""What tests of hostile input share: what must not happen besides, and how a file is read."""

import sys
import time
import warnings
from contextlib import contextmanager

import psutil
import torch
from hypothesis import HealthCheck, settings

from utils.weights import read_state_dict

LIMITS = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
SECONDS, ROOM = 20, 128 * 2**20
LONGEST = 900  # characters of a message


@contextmanager
def nothing_else(capfd=None):
    """No warning, no output, in reasonable time and memory."""
    before, start = _peak(), time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert capfd is None or capfd.readouterr() == ("", "")
    assert time.monotonic() - start < SECONDS
    assert _peak() - before < ROOM


def _peak():
    """The most bytes of memory that this process has had."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def read_or_refuse(path, content, capfd, read=read_state_dict):
    """Read the bytes as weights; what is in them, or the message of the error."""
    path.write_bytes(content)
    with nothing_else(capfd):
        try:
            return read(path)
        except (ValueError, OSError) as error:
            told = str(error)
            assert "\n" not in told and path.name in told and len(told) < LONGEST
            return told


def told_of(weights, path, load):
    """Save the weights and load them; None, or the message of the error."""
    torch.save(weights, path)
    with nothing_else():
        try:
            load()
        except ValueError as error:
            told = str(error)
            assert "\n" not in told and str(path) in told and len(told) < LONGEST
            return told
    return None
