"""The workflow for GitHub: the tests of `make quick` on three systems, by commands that all of them have."""

import re
import shlex

import pytest
import yaml

from tests.systems import is_lacking


@pytest.fixture
def job(repository):
    text = (repository / ".github/workflows/quick.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["jobs"]["quick"]


def commands(job):
    return [line for step in job["steps"] for line in step.get("run", "").splitlines()]


def test_it_runs_on_three_systems(job):
    systems = [name.partition("-")[0] for name in job["strategy"]["matrix"]["system"]]
    assert systems == ["ubuntu", "macos", "windows"] and job["runs-on"] == "${{ matrix.system }}"


def test_it_runs_the_quick_lane(job, repository):
    made = (repository / "Makefile").read_text(encoding="utf-8")
    (selected,) = re.findall(r'^quick:.*\n\t\$\(TESTS\) -m "(.*)"$', made, re.MULTILINE)
    (options,) = re.findall(
        r"^TESTS := OMP_NUM_THREADS=1 \$\(BIN\)/python -m pytest (.*)$", made, re.MULTILINE
    )
    words = shlex.split(commands(job)[-1])
    assert words == ["python", "-m", "pytest", *options.split(), "-m", selected]
    assert job["env"]["OMP_NUM_THREADS"] == "1"
    assert (repository / "requirements-dev.txt").is_file()


def test_its_commands_are_those_of_every_shell(job):
    """PowerShell on Windows: no variables, paths of an environment, or shell words."""
    for line in commands(job):
        assert line.split()[0] in ("python", "ruff", "lint-imports", "pyright")
        assert not re.search(r"[$\\|<>;&`=]|://", line.replace(line.split("-m ")[-1], "")), line


@pytest.mark.parametrize(
    ("error", "file", "wanted"),
    [
        (AttributeError("module 'os' has no attribute 'mkfifo'"), "tests/utils/test_files.py", True),
        (AttributeError("module 'os' has no attribute 'setpgrp'"), "utils/signals.py", False),
        (AttributeError("module 'torch' has no attribute 'x'"), "tests/toys.py", False),
        (OSError(22, "Invalid argument"), "tests/toys.py", False),
    ],
)
def test_what_is_skipped_on_windows(repository, error, file, wanted):
    """What a test asks the system for, not what the program does."""
    assert is_lacking(error, str(repository / file)) == wanted
