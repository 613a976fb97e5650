"""Programs in processes of their own, forked from one that has imported everything, which costs nothing."""

import functools
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def run_program(
    words: Sequence[str], processes: int = 1, timeout: float = 180, **environment: str
) -> subprocess.CompletedProcess:
    """Run a program in the repository, without a GPU; several processes find what torchrun tells them.

    The status is the first that is not 0, the output that of all, one after the other. Raises TimeoutExpired.
    """
    group = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    group["MASTER_PORT"] = str(_free_port())
    end = time.monotonic() + timeout
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        children = []
        for rank in map(str, range(processes)):
            place = group | {"RANK": rank, "LOCAL_RANK": rank} if processes > 1 else {}
            given = words, ENVIRONMENT | environment | place, folder / rank
            child = _server().Process(target=_become, args=given)
            child.start()
            stack.callback(child.kill)
            children.append(child)
        for child in children:
            child.join(end - time.monotonic())
        out, err = (
            "".join(p.read_text() for p in sorted(folder.glob(f"*.{kind}"))) for kind in ("out", "err")
        )
        statuses = [child.exitcode for child in children]
    if None in statuses:
        raise subprocess.TimeoutExpired(words, timeout, out, err)
    return subprocess.CompletedProcess(words, next(filter(None, statuses), 0), out, err)


def start_function(function: Callable[..., None], *given: Any) -> BaseProcess:
    """Call a function of a module in a process of its own, without a GPU."""
    process = _server().Process(target=_call, args=(function, given), daemon=True)
    process.start()
    return process


def _call(function: Callable[..., None], given: Sequence[Any]) -> None:
    os.environ.update(ENVIRONMENT)
    torch.set_num_threads(1)
    function(*given)


@functools.cache
def _server() -> BaseContext:
    """Where processes come from; it is started in the repository, where Python finds what is imported."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # each imports everything, then
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["processor", "retrieval", "sklearn.cluster"])
    before = os.getcwd()
    os.chdir(ROOT)
    forkserver.ensure_running()
    os.chdir(before)
    return context


def _become(words: Sequence[str], environment: Mapping[str, str], printed: Path) -> None:
    """Be `python words[0] …`, as far as a program can tell."""
    for number, kind in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(printed.with_suffix(kind), os.O_WRONLY | os.O_CREAT), number)
    os.chdir(ROOT)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv[:] = words
    runpy.run_path(words[0], run_name="__main__")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
