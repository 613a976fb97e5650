"""Features that are kept: only new and changed images are encoded again."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval import FeatureSet, RetrievalTask
from tests.toys import save_noise
from tools.features import kept
from tools.features.finding import NoneReadableError
from tools.features.kept import keep_features
from utils.lock import locked

INFO = {
    "weight": "a.pth",
    "weight_sha256": "00",
    "model": "toy",
    "size": (32, 16),
    "stride": (8, 8),
    "pixel_mean": (0.5, 0.5, 0.5),
    "pixel_std": (0.5, 0.25, 0.1),
    "resize": "bicubic",
    "orientation": "exif",
    "precision": "float32",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        save_noise(Path(f"imgs/{number}.png"), number)
    return tmp_path


@pytest.fixture
def keep(folder):
    """keep('0.png', '1.png', size=[8, 8]) -> features, and the files that were encoded for them."""

    def run(*names, info=INFO, unreadable=(), interrupted="", path="imgs/{}"):
        asked = []

        def encode(paths):
            asked.extend(Path(each).name for each in paths)
            if interrupted in asked:
                raise KeyboardInterrupt
            read = [each for each in paths if Path(each).name not in unreadable]
            if not read:
                raise NoneReadableError("none of them could be read")
            rows = [[float(Path(each).stat().st_size), float(Path(each).stem)] for each in read]
            return FeatureSet(torch.tensor(rows), [-1] * len(rows), [-1] * len(rows), read)

        return keep_features(Path("kept.npz"), [path.format(name) for name in names], info, encode), asked

    return run


ALL = [f"{number}.png" for number in range(4)]


def test_nothing_is_encoded_twice(keep, caplog):
    caplog.set_level("INFO")
    features, asked = keep(*ALL)
    assert asked == ALL and features.features[:, 1].tolist() == [0, 1, 2, 3]
    assert features.paths == tuple(f"imgs/{name}" for name in ALL)
    written = Path("kept.npz").stat().st_mtime_ns
    again, asked = keep(*reversed(ALL))
    assert not asked and again.features[:, 1].tolist() == [3, 2, 1, 0]
    assert torch.equal(again.features.flip(0), features.features)
    assert Path("kept.npz").stat().st_mtime_ns == written  # nothing new: not written
    assert "0 of 4 images" in caplog.messages[0] and "4 of 4 images" in caplog.messages[1]


def test_new_changed_and_removed_files(keep, caplog):
    caplog.set_level("INFO")
    keep(*ALL)
    os.utime("imgs/1.png", (1, 1))
    shutil.copy2("imgs/3.png", "imgs/2.png")  # another size, the time of another file
    save_noise(Path("imgs/4.png"), 4)
    Path("imgs/0.png").unlink()
    features, asked = keep("1.png", "2.png", "3.png", "4.png")
    assert asked == ["1.png", "2.png", "4.png"] and features.features[:, 1].tolist() == [1, 2, 3, 4]
    assert "1 of 4 images" in caplog.messages[-1] and "3 are new or changed; 1 are" in caplog.messages[-1]
    stored = FeatureSet.load("kept.npz")
    assert [Path(key).name for key in stored.keys] == ["1.png", "2.png", "3.png", "4.png"]
    assert keep("1.png", "2.png", "3.png", "4.png")[1] == []


def test_the_working_folder_does_not_matter(keep, folder):
    keep(*ALL)
    features, asked = keep(*ALL, path=str(folder / "imgs" / "{}"))
    assert not asked and features.paths[0] == str(folder / "imgs" / "0.png")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight_sha256", "01"),
        ("model", "other"),
        ("size", (64, 32)),
        ("pixel_std", (0.5, 0.25, 0.2)),
        ("resize", "bilinear"),
        ("orientation", "stored"),
        ("precision", "bf16"),
    ],
)
def test_other_settings_start_anew(keep, caplog, name, value):
    caplog.set_level("INFO")
    keep(*ALL)
    assert keep("0.png", info=INFO | {name: value})[1] == ["0.png"]
    assert any(f"4 images were made with another {name} " in message for message in caplog.messages)
    assert keep("0.png", info=INFO | {name: value})[1] == []


def test_the_path_of_the_weights_may_be_another(keep):
    keep(*ALL)
    assert keep(*ALL, info=INFO | {"weight": "b.pth"})[1] == []


def test_files_that_cannot_be_read_are_tried_again(keep):
    features, asked = keep(*ALL, unreadable=["1.png"])
    assert asked == ALL and [Path(key).name for key in features.keys] == ["0.png", "2.png", "3.png"]
    features, asked = keep(*ALL, unreadable=["1.png"])
    assert asked == ["1.png"] and len(features) == 3
    assert len(keep(*ALL)[0]) == 4


def test_an_interruption_loses_one_portion(keep, monkeypatch):
    monkeypatch.setattr(kept, "_AT_ONCE", 2)
    with pytest.raises(KeyboardInterrupt):
        keep(*ALL, interrupted="2.png")
    features, asked = keep(*ALL)
    assert asked == ["2.png", "3.png"] and features.features[:, 1].tolist() == [0, 1, 2, 3]
    assert keep(*ALL)[1] == []


def test_portions_that_cannot_be_read(keep, monkeypatch):
    monkeypatch.setattr(kept, "_AT_ONCE", 2)
    assert keep(*ALL, unreadable=ALL[:3])[0].features[:, 1].tolist() == [3]
    assert keep(*ALL[:3], unreadable=ALL[:2])[0].features[:, 1].tolist() == [2]
    with pytest.raises(ValueError, match="none of them"):
        keep(*ALL, unreadable=ALL, info=INFO | {"model": "other"})


def test_none_can_be_read(keep):
    with pytest.raises(ValueError, match="none of them"):
        keep("0.png", unreadable=["0.png"])
    assert not Path("kept.npz").exists()


def test_it_is_a_feature_file(keep):
    keep(*ALL)
    task = RetrievalTask.load("kept.npz")
    assert len(task.images) == 4 and task.info["size"] == [32, 16]
    with np.load("kept.npz") as stored:
        assert stored["times"][0] == Path("imgs/0.png").stat().st_mtime_ns
        assert stored["sizes"][0] == Path("imgs/0.png").stat().st_size


@pytest.mark.parametrize("as_task", [False, True])
def test_files_of_other_programs_are_not_replaced(keep, as_task):
    images = FeatureSet(torch.ones(2, 2), [1, 1], [0, 1], ["a", "b"])
    (RetrievalTask.all_against_all(images) if as_task else images).save("kept.npz")
    before = Path("kept.npz").read_bytes()
    with pytest.raises(ValueError, match=r"kept\.npz is a feature file of another program; allowed: "):
        keep(*ALL)
    Path("kept.npz").write_text("x")
    with pytest.raises(ValueError, match=r"kept\.npz is not a feature file"):
        keep(*ALL)
    assert before and Path("kept.npz").read_text() == "x"


def test_states_that_do_not_fit_are_refused(keep):
    keep(*ALL)
    with np.load("kept.npz") as stored:
        arrays = dict(stored)
    np.savez("kept.npz", **(arrays | {"sizes": arrays["sizes"][:2]}))
    with pytest.raises(ValueError, match=r"kept\.npz .*of different lengths, .*sizes 2"):
        keep(*ALL)


def test_two_searches_do_not_write_one_file(keep, folder):
    with locked(folder / ".kept.npz.lock"), pytest.raises(BlockingIOError, match="in use by process"):
        keep(*ALL)
    assert len(keep(*ALL)[0]) == 4
