"""A disk gets full while a gallery grows: one line, nothing that was added is lost, it goes on with room."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("pymilvus")

from tests.namespaces import unshare, why_not
from tests.processes import ENVIRONMENT, ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seeds", [(0, 1), (2, 3)])
def test_nothing_is_lost_on_a_full_disk(tmp_path, seeds):
    if reason := why_not("mount"):
        pytest.skip(reason)
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.retrieval.store.full_disk", str(folder), *map(str, seeds)]
    done = subprocess.run(
        [*unshare("mount"), "env", *(f"{name}={value}" for name, value in ENVIRONMENT.items()), *command],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [run["work"] for run in runs] == ["fill_and_go_on", "open_on_a_full_disk"] * 2
    for run in runs:
        assert run["added"] > 100
        for message in run["messages"]:
            assert message.startswith(f"gallery {folder}/gallery_{run['seed']}.db: ")
            assert "No space left on device" in message and "\n" not in message
    assert "Traceback" not in done.stderr
