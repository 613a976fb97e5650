"""The programs in this process, with toy towers, the repository's configuration files and a tiny data set."""

import runpy
import shutil
import sys

import pytest

from tests.toys import SETTINGS, TEXT_SETTINGS, draw_captions, draw_market, words

TRAINING = {
    "SOLVER.STAGE2.IMS_PER_BATCH": "4",
    "SOLVER.STAGE2.MAX_EPOCHS": "1",
    "SOLVER.STAGE1.MAX_EPOCHS": "2",
}


@pytest.fixture(scope="session")
def market(tmp_path_factory):
    """ROOT_DIR of two people for training and two for tests."""
    return draw_market(tmp_path_factory.mktemp("market"), (1, 2), (3, 4))


@pytest.fixture
def own_market(market, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(market, tmp_path / "data")


@pytest.fixture
def own_captions(tmp_path):
    """ROOT_DIR of images with captions in the prepared form, which a test may damage."""
    return draw_captions(tmp_path / "captions")


@pytest.fixture
def start(toy_towers, repository, market, tmp_path, monkeypatch, capsys):
    """start('train.py', KEY, VALUE, …) -> (status, stdout, stderr)."""
    monkeypatch.chdir(repository)

    def run(program, *pairs, options=()):
        base = TEXT_SETTINGS if "tbps" in program else SETTINGS
        settings = base | (TRAINING if program == "train_clipreid.py" else {})
        settings |= {"DATASETS.ROOT_DIR": str(market), "OUTPUT_DIR": str(tmp_path / "logs")}
        settings |= dict(zip(pairs[::2], pairs[1::2], strict=True))
        monkeypatch.setattr(sys, "argv", [program, *options, *words(settings)])
        status = 0
        try:
            runpy.run_path(str(repository / program), run_name="__main__")
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def refused(start, recwarn):
    """refused('train.py', KEY, VALUE, …, told=[…]) -> the one line on stderr, after checks of all else."""

    def run(program, *pairs, told, **more):
        status, out, err = start(program, *pairs, **more)
        assert status == 2 and "Epoch[" not in out
        assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
        assert len(err) < 700 and not list(recwarn)  # a warning would be another line on stderr
        for text in told:
            assert str(text) in err
        return err

    return run
