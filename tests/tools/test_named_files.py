"""Errors of tools about what a file holds name the file."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from retrieval import FeatureSet, RetrievalTask
from tools import evaluate, plots, rank, threshold


@pytest.fixture
def told(capsys):
    """told(program, options…) -> its one line of error."""

    def run(program, *options):
        with pytest.raises(SystemExit) as caught:
            program.main([*map(str, options)])
        err = capsys.readouterr().err.splitlines()
        assert caught.value.code == 2 and err[-1].startswith("error: ")
        return err[-1]

    return run


@pytest.mark.parametrize("program", [evaluate, rank, threshold])
@pytest.mark.parametrize("pids", [[1, 2, 3], [-1, -1, -1]])
def test_features_without_a_match(tmp_path, told, program, pids):
    images = FeatureSet(np.eye(3, dtype=np.float32), pids, [1, 2, 3], ["a", "b", "c"])
    RetrievalTask.all_against_all(images).save(tmp_path / "a.npz")
    options = [] if program is evaluate else ["--out", tmp_path / "out"]
    options += ["--worst", 3] if program is rank else []  # by itself it shows the first queries
    assert str(tmp_path / "a.npz") in told(program, "--features", tmp_path / "a.npz", *options)


def test_a_picture_on_a_full_disk(tmp_path, told, monkeypatch):
    (tmp_path / "metrics.json").write_text('{"cmc": [0.5, 1.0], "mAP": 0.5}')

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    line = told(plots, "cmc", "--out", tmp_path / "cmc.png", tmp_path)
    assert f"{tmp_path / 'cmc.png'} cannot be written: No space left" in line
