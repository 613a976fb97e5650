"""DATASETS.DOWNLOAD in a run of several processes: one fetches, and all go on or end."""

import zipfile
from pathlib import Path

import pytest

from datasets.drawn import draw_market1501
from tests.file_server import serving_files
from tests.processes import run_program

pytestmark = pytest.mark.slow
READING = str(Path(__file__).with_name("fetching.py"))


def test_one_fetches_and_all_read(tmp_path):
    pytest.importorskip("gdown")
    draw_market1501(
        tmp_path, train_ids=2, test_ids=2, images_per_camera=2, cameras=2, distractors=1, size=(32, 16)
    )
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in tmp_path.rglob("*.jpg"):
            archive.write(path, path.relative_to(tmp_path))
    with serving_files() as server:
        url = server.put("a.zip", (tmp_path / "a.zip").read_bytes())
        done = run_program([READING, url, str(tmp_path / "data")], 3)
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stdout.splitlines() if line.startswith("process")] == [
            f"process {rank}: 8 images" for rank in range(3)
        ]
        assert len(server.seen) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_all_end_in_one_line_where_nothing_can_be_fetched(processes, tmp_path):
    settings = ("DATASETS.NAMES", "msmt17", "DATASETS.ROOT_DIR", str(tmp_path / "data"))
    more = ("DATASETS.DOWNLOAD", "True", "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path / "out"))
    words = ["train_clipreid.py", "--config_file", "configs/person/vit_clipreid.yml", *settings, *more]
    done = run_program(words, processes)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == processes
    assert all("msmt17 is not public" in line and "by hand: http" in line for line in lines)
    assert not (tmp_path / "data").exists()
