"""Description of what a run ran on: versions, GPUs, host, commit, command line."""

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch

_PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "numpy", "pillow")
_ROOT = Path(__file__).resolve().parent.parent
_GIT_SECONDS = 10


def describe_environment() -> dict[str, str]:
    """Versions, hardware, commit and command line by name, in reading order; each is one line.

    A value that cannot be found out says so; nothing is raised.
    """
    return {
        **package_versions(),
        "CUDA": torch.version.cuda or "none",
        "cuDNN": str(torch.backends.cudnn.version() or "none"),
        "GPUs": _gpus(),
        "threads": str(torch.get_num_threads()),
        "processors": str(os.cpu_count() or "unknown"),
        "host": platform.platform(),
        "commit": git_state(_ROOT),
        # sys.argv lacks the interpreter, and `-m module`.
        "command": shlex.join([sys.executable or "python", *sys.orig_argv[1:]]),
    }


def peak_memory(device: torch.device) -> int | None:
    """The most memory so far in bytes: torch's on a GPU, on the CPU the process's resident memory.

    None where the system does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages on which results depend."""
    return {"python": platform.python_version(), **{package: _version(package) for package in _PACKAGES}}


def git_state(folder: Path) -> str:
    """The commit of a checkout, ' with local changes' where files differ from it, or why there is none."""
    if not (folder / ".git").exists():  # git would describe a checkout that the folder is in
        return "not a git checkout"
    describe = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty= with local changes"]
    try:
        done = subprocess.run(
            # Without fsmonitor, which is a program that the folder's settings name.
            ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *describe],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeError) as error:
        return f"unknown (git: {type(error).__name__})"
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gpus() -> str:
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "none"
