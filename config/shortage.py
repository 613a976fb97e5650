"""Advice for errors in which torch and Python report that files, shared memory or memory are used up."""

from utils.limits import raise_file_limit

_FEWER = "lower DATALOADER.NUM_WORKERS (a tool's --workers); 0 needs none"
_FILES = "this process may open {limit} files: raise the limit (ulimit -n), or " + _FEWER
_SHARED = (
    "shared memory (/dev/shm), through which loaders pass batches, is too small: in a container give it more "
    "(--shm-size 8g or --ipc=host), or " + _FEWER
)
_MEMORY = "most often memory is full: " + _FEWER
_SIGNS = {  # parts of messages; the first one that fits counts
    "Too many open files": _FILES,
    "items of ancdata": _FILES,  # descriptors that did not come with a message
    "Bus error": _SHARED,
    "shared memory object": _SHARED,
    "shared memory(shm)": _SHARED,
    "</torch_": _SHARED,  # a block of shared memory
    "[Errno 28]": _SHARED,  # without a file: of the semaphores, which lie there too
    "Pin memory thread exited unexpectedly": _MEMORY,
    "DataLoader worker (": _MEMORY,
    "[Errno 12]": _MEMORY,
}


def shortage(message: str) -> str:
    """Advice for an error with this message; '' if it reports none of these shortages."""
    advice = next((advice for sign, advice in _SIGNS.items() if sign in message), "")
    return advice.format(limit=raise_file_limit()) if advice else ""
