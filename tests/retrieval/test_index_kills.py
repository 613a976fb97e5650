"""A process that changes a gallery is killed at random moments: what was acknowledged is there, once."""

import os
import random
import signal
import time

import pytest

from retrieval import Gallery
from tests.processes import start_function
from tests.retrieval.gallery_changes import (
    MODELS,
    assert_between,
    assert_found,
    changes,
    keep_changing,
)

pytestmark = pytest.mark.slow

SECONDS = 120


def kill_while_changing(address, seed, kinds, state, folder):
    """Kill a process that makes changes; what a gallery held before and behind the change it was at."""
    draw, told = random.Random(seed), folder / f"told_{seed}"
    told.touch()
    process = start_function(keep_changing, address, seed, kinds, state, told)
    try:
        wanted, end = draw.randint(1, 15), time.monotonic() + SECONDS
        while told.stat().st_size < wanted * len("done\n"):
            assert process.is_alive() and time.monotonic() < end, process.exitcode
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.15))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    done = told.read_text().count("done\n")
    states = [state]
    for _, (_, behind) in zip(range(done + 1), changes(seed, kinds, state), strict=False):
        states.append(behind)
    return states[-2], states[-1]


@pytest.mark.parametrize(
    ("kinds", "kills"),
    [
        (("add",), 20),
        (("add", "remove"), 4),
        (("add", "add", "rename", "assign"), 4),
        (("add", "index"), 4),
        (("add", "remove", "compact"), 8),
    ],
    ids=["add", "remove", "rename", "index", "compact"],
)
def test_what_was_acknowledged_is_there_once(tmp_path, kinds, kills):
    address = str(tmp_path / "gallery.db")
    Gallery.create(address, MODELS).close()
    state = {}
    for number in range(kills):
        seed = 1000 * kills + number
        before, after = kill_while_changing(address, seed, kinds, state, tmp_path)
        with Gallery.open(address, MODELS) as gallery:
            state = assert_between(gallery, before, after)
            assert_found(gallery, state, random.Random(seed))
    assert len(state) > 100
