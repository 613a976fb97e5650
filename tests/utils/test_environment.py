"""A run says what it ran on, whatever is missing."""

import platform
import shutil
import subprocess
import sys

import pytest
import torch

from utils import environment
from utils.environment import describe_environment, git_state


def test_everything_is_text(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "train", "two words"])
    told = describe_environment()
    assert all(isinstance(value, str) and value and "\n" not in value for value in told.values())
    assert list(told)[:7] == [
        "python",
        "torch",
        "torchvision",
        "open_clip_torch",
        "timm",
        "numpy",
        "pillow",
    ]
    assert told["python"] == platform.python_version() and torch.__version__.startswith(told["torch"])
    assert told["command"] == f"{sys.executable} -m train 'two words'"
    assert told["threads"] == str(torch.get_num_threads())


def test_gpus_are_counted(monkeypatch):
    names = ["A 40", "B 100", "A 40"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: names[index])
    assert describe_environment()["GPUs"] == "2 x A 40, 1 x B 100"
    names.clear()
    assert describe_environment()["GPUs"] == "none"


def test_packages_that_are_not_there(monkeypatch):
    monkeypatch.setattr(environment, "_PACKAGES", ("no-such-package",))
    assert describe_environment()["no-such-package"] == "not installed"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with one commit, and git in it."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "checkout"
    (folder / "inner").mkdir(parents=True)

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    (folder / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    return folder, git


def test_the_commit(checkout):
    folder, git = checkout
    commit = git("rev-parse", "HEAD")
    assert len(commit) == 40 and git_state(folder) == commit
    (folder / "output").touch()  # what a run writes is no change
    assert git_state(folder) == commit
    (folder / "file").write_text("two")
    assert git_state(folder) == f"{commit} with local changes"


def test_folders_that_are_no_checkout(checkout, tmp_path):
    folder, _ = checkout
    assert git_state(folder / "inner") == "not a git checkout"
    assert git_state(tmp_path) == "not a git checkout"
    assert git_state(tmp_path / "gone") == "not a git checkout"


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)])
def test_git_that_fails(tmp_path, monkeypatch, error):
    def run(*arguments, **options):
        raise error

    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(subprocess, "run", run)
    assert git_state(tmp_path) == f"unknown (git: {type(error).__name__})"
