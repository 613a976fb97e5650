"""The demo, with fewer people and steps than its minutes have, and its table."""

import functools
import importlib.util
import json

import pytest

from config import cfg, cfg_tbps
from config.check import check_config, unused_keys
from config.load import load_config
from datasets.drawn import draw_captions
from utils.lock import locked


@pytest.fixture
def demo(repository):
    spec = importlib.util.spec_from_file_location("demo", repository / "tools/demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_shows_first_and_last_evaluation(demo, tmp_path):
    records = [
        {"stage": "untrained", "epoch": 0, "mAP": 0.05, "rank1": 0.125},
        {"stage": "stage1", "epoch": 1, "loss": 3.0},
        {"stage": "stage2", "epoch": 8, "mAP": 0.5, "rank1": 0.6},
        {"stage": "stage2", "epoch": 16, "mAP": 0.8125, "rank1": 0.95},
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    _, head, before, after = demo.table(file).split("\n")
    assert head.split() == ["people", "never", "seen", "in", "training", "Rank-1", "mAP"]
    assert before.split() == ["before", "training", "12.5%", "5.0%"]
    assert after.split() == ["after", "16", "epochs", "95.0%", "81.2%"]


def test_a_second_demo_in_the_folder_of_one_at_work_is_refused(demo, tmp_path, capsys):
    with locked(tmp_path / ".demo.lock"), pytest.raises(SystemExit) as ended:
        demo.main(["--out", str(tmp_path)])
    assert ended.value.code == 2 and f"{tmp_path} is in use by process" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize(("base", "file"), [(cfg, "CONFIG"), (cfg_tbps, "TEXT_CONFIG")])
def test_configuration_is_sound(demo, repository, base, file):
    config = load_config(base, str(repository / getattr(demo, file)), [])
    check_config(config)
    assert unused_keys(config) == {}
    assert config.TEST.EVAL_BEFORE_TRAINING
    assert config.MODEL.PRETRAIN_CHOICE == "none"


@pytest.mark.slow
def test_search_by_sentence_ends_with_a_table_and_a_page(demo, repository, tmp_path, monkeypatch, capsys):
    few = {"train_ids": 8, "test_ids": 3, "cameras": 2, "size": (48, 24)}
    monkeypatch.setattr("datasets.drawn.draw_captions", functools.partial(draw_captions, **few))
    short = {
        "IMS_PER_BATCH": 16,
        "MAX_EPOCHS": 1,
        "CHECKPOINT_PERIOD": 1,
        "WARMUP_EPOCHS": 0,
        "EVAL_PERIOD": 1,
    }
    config = {"_BASE_": str(repository / demo.TEXT_CONFIG), "SOLVER": short}
    (tmp_path / "short.yml").write_text(json.dumps(config))
    monkeypatch.setattr(demo, "TEXT_CONFIG", str(tmp_path / "short.yml"))
    monkeypatch.chdir(repository)
    out = tmp_path / "demo"
    assert demo.main(["--text", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "before training" in shown and "after 1 epochs" in shown
    page = out / "run" / "search" / "ranking.html"
    assert str(page) in shown
    rows = json.loads((out / "data" / "drawn_captions" / "test_reid.json").read_text())
    assert rows[0]["captions"][0] in shown and rows[0]["captions"][0] in page.read_text()
    assert str(out / "data" / "drawn_captions" / "imgs" / rows[0]["file_path"]) in shown
