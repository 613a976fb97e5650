"""The gallery's demo, with fewer people and steps than its minutes have."""

import functools
import json
import socket

import pytest

from datasets.drawn import draw_days, draw_market1501
from tests import toys
from tools import gallery_demo
from utils.lock import locked


@pytest.fixture
def small(repository, tmp_path, monkeypatch):
    """The folder of a small demo."""
    few = {"train_ids": 8, "test_ids": 8, "cameras": 2, "distractors": 0, "size": (48, 24)}
    monkeypatch.setattr("datasets.drawn.draw_market1501", functools.partial(draw_market1501, **few))
    few = {"people": 3, "days": 1, "size": (48, 24)}
    monkeypatch.setattr("datasets.drawn.draw_days", functools.partial(draw_days, **few))
    stage = {"MAX_EPOCHS": 1, "CHECKPOINT_PERIOD": 1}
    config = {
        "_BASE_": str(repository / gallery_demo.demo.CONFIG),
        "INPUT": {"SIZE_TRAIN": [48, 32], "SIZE_TEST": [48, 32]},
        "SOLVER": {"STAGE1": stage, "STAGE2": stage | {"EVAL_PERIOD": 1, "IMS_PER_BATCH": 16}},
    }
    (tmp_path / "short.yml").write_text(json.dumps(config))
    monkeypatch.setattr(gallery_demo.demo, "CONFIG", str(tmp_path / "short.yml"))
    monkeypatch.setattr(gallery_demo, "RATE", "0.01")  # of a few hundred pairs
    monkeypatch.chdir(repository)
    return tmp_path / "demo"


@pytest.mark.slow
def test_three_questions_are_answered(small, toy_towers, capsys):
    words = ["--demo", str(small), "--no-serve"]
    assert gallery_demo.main(words) == 0
    shown = capsys.readouterr().out
    assert "$ python tools/demo.py" in shown and "$ python test_clipreid.py" in shown
    known, stranger = shown.split("\nimage ")[1:]
    assert "asked/Anna.jpg\n" in known and "asked/stranger.jpg\n" in stranger
    assert all("  nobody within" in answer or "   1  " in answer for answer in (known, stranger))
    assert "make demo-text" in shown
    # The models that are there are used, a text search model, too; the gallery is made anew.
    (small / "text/run").mkdir(parents=True)
    toys.save_text_model(small / "text/run/toy_1.pth")
    assert gallery_demo.main(words) == 0
    shown = capsys.readouterr().out
    assert "$ python tools/demo.py" not in shown and "space text" in shown
    (answer,) = shown.split("\nsentence ")[1:]
    assert len(answer.splitlines()) == 7 and "drawn_days/pictures/" in answer


def test_a_second_demo_in_the_folder_of_one_at_work_is_refused(tmp_path, capsys):
    out = tmp_path / "gallery"
    out.mkdir()
    with locked(out / ".demo.lock"), pytest.raises(SystemExit) as ended:
        gallery_demo.main(["--demo", str(tmp_path), "--no-serve"])
    assert ended.value.code == 2 and f"{out} is in use by process" in capsys.readouterr().err


def test_weights_of_stage_1_are_not_taken(tmp_path):
    assert gallery_demo._newest(tmp_path / "run") is None
    (tmp_path / "run").mkdir()
    (tmp_path / "run/small_clip_stage1_20.pth").touch()
    assert gallery_demo._newest(tmp_path / "run") is None
    (tmp_path / "run/small_clip_40.pth").touch()
    assert gallery_demo._newest(tmp_path / "run") == tmp_path / "run/small_clip_40.pth"


def test_a_port_that_is_taken_is_told_before_anything_is_drawn(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(SystemExit) as ended:
        gallery_demo.main(["--demo", str(tmp_path), "--port", str(listener.getsockname()[1])])
    assert ended.value.code == 2 and "--port" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
