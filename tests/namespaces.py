"""Commands in namespaces of Linux: with a network or file systems that nobody else sees."""

import os
import shutil
import subprocess


def unshare(*kinds: str) -> list[str]:
    """The words before a command that give it namespaces, such as 'net' and 'mount'.

    It gets one of processes, too, and ends with its parent.
    """
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [
        "unshare",
        *as_root,
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        *(f"--{k}" for k in kinds),
    ]


def why_not(*kinds: str) -> str:
    """Why this machine gives no such namespaces; '' where it does."""
    if not shutil.which("unshare"):
        return "there is no program `unshare`"
    done = subprocess.run([*unshare(*kinds), "true"], text=True, capture_output=True, check=False)
    return f"no namespace can be made: {done.stderr.strip()}" if done.returncode else ""
