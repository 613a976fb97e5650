"""The programs in this process, with toy towers, the repository's configuration files and a tiny data set."""

import runpy
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

TOY = {
    "MODEL.NAME": "toy-vit",
    "MODEL.DEVICE": "cpu",
    "MODEL.PRETRAIN_CHOICE": "none",
    "MODEL.STRIDE_SIZE": "[8, 8]",
    "INPUT.SIZE_TRAIN": "[32, 16]",
    "INPUT.SIZE_TEST": "[32, 16]",
    "DATALOADER.NUM_WORKERS": "0",
    "DATALOADER.NUM_INSTANCE": "2",
}
TRAINING = {
    "SOLVER.STAGE2.IMS_PER_BATCH": "4",
    "SOLVER.STAGE2.MAX_EPOCHS": "1",
    "SOLVER.STAGE1.MAX_EPOCHS": "2",
}
MARKET = "Market-1501-v15.09.15"


def _draw_picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def draw_picture():
    """draw_picture(path, seed) -> an image file of noise."""
    return _draw_picture


@pytest.fixture(scope="session")
def market(tmp_path_factory):
    root = tmp_path_factory.mktemp("market")
    for folder, pids in (("bounding_box_train", (1, 2)), ("query", (3, 4)), ("bounding_box_test", (3, 4))):
        for pid in pids:
            for camera in (1, 2):
                _draw_picture(root / MARKET / folder / f"{pid:04d}_c{camera}s1_000001_00.jpg", pid)
    return root


@pytest.fixture
def own_market(market, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(market, tmp_path / "data")


@pytest.fixture
def start(toy_towers, repository, market, tmp_path, monkeypatch, capsys):
    """start('train.py', KEY, VALUE, …) -> (status, stdout, stderr)."""
    monkeypatch.chdir(repository)

    def run(program, *pairs, options=()):
        settings = TOY | (TRAINING if program == "train_clipreid.py" else {})
        settings |= {"DATASETS.ROOT_DIR": str(market), "OUTPUT_DIR": str(tmp_path / "logs")}
        settings |= dict(zip(pairs[::2], pairs[1::2], strict=True))
        words = [word for pair in settings.items() for word in pair]
        monkeypatch.setattr(sys, "argv", [program, *options, *words])
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
