"""What a run ran on and with: versions, GPUs, host, commit, command line."""

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
    """Versions, hardware, commit and command line by name, in the order in which one reads them.

    What cannot be found out says so; nothing is raised.
    """
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "CUDA": torch.version.cuda or "none",
        "cuDNN": str(torch.backends.cudnn.version() or "none"),
        "GPUs": _gpus(),
        "threads": str(torch.get_num_threads()),
        "processors": str(os.cpu_count() or "unknown"),
        "host": platform.platform(),
        "commit": git_state(_ROOT),
        # Python keeps what it was called with; sys.argv lacks the interpreter, and `-m module`.
        "command": shlex.join([sys.executable or "python", *sys.orig_argv[1:]]),
    }


def git_state(folder: Path) -> str:
    """The commit of a folder's checkout, ' with local changes' where files differ from it, or why none."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        # Of a folder inside another project's checkout, git would tell that project's commit.
        if commit is None or Path(_git(folder, "rev-parse", "--show-toplevel") or "") != folder.resolve():
            return "not a git checkout"
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except FileNotFoundError:
        return "unknown (git is not installed)"
    except (OSError, subprocess.TimeoutExpired, UnicodeError):
        return "unknown (git gave no answer)"
    return f"{commit} with local changes" if changes else str(commit)


def _git(folder: Path, *words: str) -> str | None:
    """What git prints; None where it refuses, e.g. a folder of somebody else."""
    done = subprocess.run(
        # Without fsmonitor, which is a program that the folder's settings name.
        ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=_GIT_SECONDS,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gpus() -> str:
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "none"
