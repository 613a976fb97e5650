"""How many files this process may open, and how many processes can load images for it."""

import logging
import os
import sys

from utils.launch import processes_here

if sys.platform != "win32":
    import resource

_ENOUGH = 65_536  # some programs count up to their limit
_OF_MACOS = 10_240  # its OPEN_MAX, whatever the limit says
_OF_WINDOWS = 61  # processes that a pool of Python can wait for
# Files that a program has open, with a GPU, and for each worker: pipes, and batches that are on their way.
_OWN, _OF_WORKER = 128, 32
_MOST_WORKERS = 16  # of a share: more would only take memory
_logger = logging.getLogger("transreid")


def raise_file_limit() -> int:
    """Raise this process's limit of open files as far as its user may, and return it."""
    if sys.platform == "win32":
        return _ENOUGH  # limited by memory only
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _ENOUGH
    best = _ENOUGH if most == resource.RLIM_INFINITY else min(most, _ENOUGH)
    for goal in (best, min(best, _OF_MACOS)):
        if limit >= goal:
            return limit
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, most))
        except (OSError, ValueError):  # macOS allows fewer than it says
            continue
        _logger.info("this process may open %d files now instead of %d", goal, limit)
        return goal
    return limit


def allowed_workers(wanted: int) -> int:
    """`wanted`, or as many processes that load images as the limit of open files allows, with a warning.

    Beyond the limit batches are lost, for which a program waits forever.
    """
    if not wanted:
        return 0
    files = raise_file_limit()
    allowed = max(files - _OWN, 0) // _OF_WORKER
    if wanted > allowed:
        _logger.warning(
            "%d processes load images instead of %d: this process may open %d files (ulimit -n)",
            allowed,
            wanted,
            files,
        )
    return min(wanted, allowed)


def available_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return min(os.cpu_count() or 1, _OF_WINDOWS) if sys.platform == "win32" else os.cpu_count() or 1


def usual_workers() -> int:
    """This process's share of the processors, 1 to 16, as far as `allowed_workers` allows."""
    own = available_processors() // processes_here()
    return allowed_workers(min(max(own, 1), _MOST_WORKERS))
