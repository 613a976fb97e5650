"""Programs of others that read what we write, each in an environment of its own: the tests marked `guest`.

They are no dependencies. Some are under the AGPL, so a test starts its driver as a program of the guest's
Python, and reads the arrays that it leaves.
"""

import os
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("CLIPREID_GUESTS") or Path(tempfile.gettempdir(), "clipreid-guests"))


@cache
def guest_python(name: str, requirements: tuple[str, ...], options: tuple[str, ...] = ()) -> Path:
    """The Python of the environment FOLDER/name, which has this one's packages and `requirements`.

    It is made once for each list of requirements; `options` are pip's. Skips the test where pip fails.
    """
    folder = FOLDER / name
    python, done = folder / "bin/python", folder / "installed"
    wanted = " ".join([*options, *requirements])
    is_done = done.is_file() and done.read_text() == wanted
    if not is_done:
        venv.create(folder, clear=True, with_pip=True)
    # Torch takes gigabytes. An environment that stands may have been made for tests elsewhere.
    packages = sysconfig.get_path("purelib", vars={"base": str(folder)})
    Path(packages, "host.pth").write_text(sysconfig.get_path("purelib"))
    if is_done:
        return python
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, *requirements]
    installed = subprocess.run(pip, text=True, capture_output=True, check=False)
    if installed.returncode:
        pytest.skip(f"pip cannot install {wanted}: {installed.stderr.strip().splitlines()[-1]}")
    done.write_text(wanted)
    return python


def run_guest(python: Path, driver: Path, words: Iterable[object] = (), **environment: str) -> str:
    """What `driver` prints, run by a guest's Python with `words` in an environment without our PYTHONPATH."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(python), str(driver), *map(str, words)]
    done = subprocess.run(command, text=True, capture_output=True, env=kept | environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
