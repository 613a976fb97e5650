"""The limit of open files is raised, and loaders stay below it."""

import shutil
import subprocess
import sys

import pytest

from tests.toys import SETTINGS, draw_market, words, write_tower

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.slow

ASK = """
import logging, resource, sys
from utils.limits import allowed_workers, raise_file_limit

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print([raise_file_limit(), allowed_workers({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "found", "told"),
    [
        (256, 1000, 8, [1000, 8, (1000, 1000)], ["1000 files now instead of 256"]),
        (1000, 1000, 16, [1000, 16, (1000, 1000)], []),
        (200, 200, 8, [200, 2, (200, 200)], ["2 processes load images instead of 8", "200 files", "ulimit"]),
        (40, 40, 8, [40, 0, (40, 40)], ["0 processes load images instead of 8", "40 files", "ulimit"]),
        (40, 40, 0, [40, 0, (40, 40)], []),
    ],
)
def test_limits(repository, soft, hard, wanted, found, told):
    code = ASK.format(soft=soft, hard=hard, wanted=wanted)
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == str(found), done.stderr
    assert len(lines) == 1 + bool(told) and all(word in lines[0] for word in told)


@pytest.fixture
def train(repository, tmp_path):
    """train("ulimit -n 40", …) -> a training run after these words of a shell, with two loader processes."""
    settings = SETTINGS | {
        "MODEL.NAME": str(write_tower(tmp_path / "toy.json")),
        "DATASETS.ROOT_DIR": str(draw_market(tmp_path / "data", (1, 2), (3, 4))),
        "OUTPUT_DIR": str(tmp_path / "run"),
        "DATALOADER.NUM_WORKERS": "2",
        "SOLVER.MAX_EPOCHS": "1",
        "SOLVER.IMS_PER_BATCH": "4",
    }

    def run(shell, *before):
        command = [*before, "sh", "-c", f'{shell} && exec "$@"', "sh", sys.executable, "train.py"]
        command += ["--config_file", "", *words(settings)]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)

    return run


def test_a_run_that_may_open_few_files_loads_in_its_own_process(train):
    done = train("ulimit -n 40")
    assert done.returncode == 0, done.stderr
    assert "0 processes load images instead of 2: this process may open 40 files" in done.stdout


UNSHARE = ["unshare", "--mount"]  # a /dev/shm of its own


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="needs to mount",
)
def test_a_full_shared_memory_is_one_line(train):
    done = train("mount -t tmpfs -o size=40k tmpfs /dev/shm", *UNSHARE)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "No space left on device" in done.stderr and "--shm-size" in done.stderr
