"""Processes that load images are spawned, as on Windows and macOS: they get all they need by pickle."""

import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processor.running import checkpoints, equal, records

pytestmark = pytest.mark.slow


@pytest.fixture
def spawned():
    """spawned() -> from now on processes are spawned, also those that would be forked for a cache."""
    before = multiprocessing.get_start_method(allow_none=True)

    def start(monkeypatch):
        multiprocessing.set_start_method("spawn", force=True)
        monkeypatch.setattr(sys.modules["datasets.make_dataloader"], "_fork", lambda: None)

    yield start
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize("pairs", [("DATALOADER.ON_ERROR", "skip"), ("DATALOADER.CACHE", True)])
def test_the_weights_are_those_of_a_run_that_loads_its_images_itself(
    trained, spawned, monkeypatch, tmp_path, pairs
):
    short = (*pairs, "MAIN.MAX_EPOCHS", 1)
    _, alone = trained("baseline", *short, "OUTPUT_DIR", str(tmp_path / "alone"))
    with monkeypatch.context() as context:
        spawned(context)
        _, helped = trained("baseline", *short, "DATALOADER.NUM_WORKERS", 1)
    assert checkpoints(alone) and equal(checkpoints(alone), checkpoints(helped))
    assert records(alone) == records(helped)


def test_a_program_whose_processes_are_spawned(repository, market_tree):
    """Each of them imports it again, which must not run it."""
    words = [str(Path(__file__).with_name("spawning.py")), "tools/check_dataset.py", "--config_file", ""]
    words += ["DATASETS.ROOT_DIR", str(market_tree), "DATALOADER.NUM_WORKERS", "1"]
    done = subprocess.run(
        [sys.executable, *words], cwd=repository, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^train +\| +4 \| +8 \|", done.stdout, re.MULTILINE)) == 1
