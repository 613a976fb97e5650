"""Whole runs of text search with captions in several languages: tables, numbers, and what is kept."""

import argparse
import json
from types import SimpleNamespace

import pytest

from config import cfg_tbps
from config.load import load_config
from processor import METHODS, train
from processor import test as run_test
from retrieval import RetrievalTask, evaluate_text_search
from tests.processor.running import checkpoints, equal, records
from tests.toys import TEXT_SETTINGS, draw_captions, words, write_tower
from tools import evaluate

NAMES = ("caption", "caption_zh", "caption_ru")
CHINESE = {"DATASETS.LANGUAGES": "['zh']", "INPUT.WORD_DELETION": 0.5, "INPUT.BACK_TRANSLATION": 0.0}
TESTED = {"TEST.LANGUAGES": "['', 'zh', 'ru']"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A text search data set whose captions are in Chinese and, but for one image, in Russian too."""
    folder = draw_captions(tmp_path_factory.mktemp("languages"))
    write_tower(folder / "toy.json")
    for split in ("train", "test"):
        file = folder / f"{split}_reid.json"
        rows = json.loads(file.read_text())
        for row in rows:
            row["captions_zh"] = [f"穿第{row['id']}件外套的人。"]
            row["captions_ru"] = [] if row is rows[0] else [f"Человек номер {row['id']}", "Он"]
        file.write_text(json.dumps(rows))
    return folder


@pytest.fixture
def run(place, tmp_path):
    """run('a', KEY=…) -> its output folder."""

    def run(name, settings=(), program=train, resume=False):
        given = TEXT_SETTINGS | {"MODEL.NAME": str(place / "toy.json"), "DATASETS.ROOT_DIR": str(place)}
        given |= {"OUTPUT_DIR": str(tmp_path / name)} | dict(settings)
        args = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=resume)
        program(load_config(cfg_tbps, "", words(given)), args, method=METHODS["tbps"])
        return tmp_path / name

    return run


def test_an_evaluation_has_a_row_for_each_language_and_the_mean(run):
    settings = TESTED | {"DATASETS.LANGUAGES": "['', 'zh']", "SOLVER.KEEP_BEST": True, "SOLVER.MAX_EPOCHS": 3}
    folder = run("whole", settings)
    lines = records(folder)
    assert lines[0]["samples"] == 16 * 3  # two captions in English, one in Chinese
    for line in lines:
        for name in ("mAP", "mINP", "rank1", "rank5", "rank10"):
            assert line[name] == pytest.approx(sum(line[f"{each}_{name}"] for each in NAMES) / 3)
        assert [line[f"{each}_num_valid"] for each in NAMES] == [16, 8, 14] and line["num_valid"] == 38
    log = (folder / "train_log.txt").read_text()
    table = log.partition("Validation Results - Epoch: 3\n")[2].splitlines()[:6]
    assert [line.partition("INFO: ")[2].split(" | ")[0].strip() for line in table[2:]] == [*NAMES, "mean"]
    assert f"{lines[-1]['caption_ru_rank1']:7.1%}" in table[4] and "CMC curve" not in log
    assert (
        "will hold the epoch with the highest mean rank1 of caption, caption_zh, caption_ru on the test"
        in log
    )
    ranks = [line["rank1"] for line in lines]
    files = checkpoints(folder)
    assert equal(files["toy_best.pth"], files[f"toy_{ranks.index(max(ranks)) + 1}.pth"])
    with pytest.raises(ValueError, match=r"^DATASETS\.LANGUAGES is \[''\], but the run in .*last\.pt has "):
        run("whole", TESTED | {"SOLVER.MAX_EPOCHS": 3}, resume=True)


@pytest.mark.parametrize("direction", ["text_to_image", "image_to_text"])
def test_a_cross_lingual_test(run, tmp_path, capsys, direction):
    """Trained on one language, asked in three; the same numbers come from the features."""
    weight = run("whole", {"SOLVER.MAX_EPOCHS": 1}) / "toy_1.pth"
    tested = run("test", TESTED | {"TEST.WEIGHT": weight, "TEST.DIRECTION": direction}, program=run_test)
    metrics = json.loads((tested / "metrics.json").read_text())
    assert metrics["languages"] == ["", "zh", "ru"]
    task = RetrievalTask.load(tested / "features.npz")
    assert [trial.name for trial in task.trials] == [*NAMES] and len(task.images) == 8 + 38
    for name, (query, gallery, rule) in zip(NAMES, task, strict=True):
        texts = query if direction == "text_to_image" else gallery
        assert len(texts) == {"caption": 16, "caption_zh": 8, "caption_ru": 14}[name] and rule == "all"
        again = evaluate_text_search(query.features, gallery.features, query.pids, gallery.pids)
        assert metrics[f"{name}_mAP"] == pytest.approx(again.mAP)
        assert metrics[f"{name}_cmc"] == pytest.approx(again.cmc.tolist())
    out = tmp_path / "again.json"
    assert evaluate.main(["--features", str(tested / "features.npz"), "--out", str(out)]) == 0
    assert (
        json.loads(out.read_text()).items()
        >= {name: value for name, value in metrics.items() if name.startswith("caption")}.items()
    )
    assert "caption_ru | " in (tested / "test_log.txt").read_text()


def test_one_language_writes_what_it_always_did(run):
    folder = run("whole", {"SOLVER.MAX_EPOCHS": 1, "SOLVER.KEEP_BEST": True})
    weight = {"TEST.WEIGHT": str(folder / "toy_1.pth")}
    (line,) = records(folder)
    assert not [name for name in line if name.startswith("caption")]
    log = (folder / "train_log.txt").read_text()
    assert "CMC curve, Rank-1  :" in log and " the highest rank1 on the test split" in log
    told = "train split: captions that are not read, as not asked for: 30 caption_ru, 16 caption_zh"
    assert told in log
    tested = run("test", weight, program=run_test)
    found = json.loads((tested / "metrics.json").read_text())
    assert "languages" not in found and not [name for name in found if name.startswith("caption")]
    other = run("russian", weight | {"TEST.LANGUAGES": "['ru']"}, program=run_test)
    assert "CMC curve, Rank-1  :" in (other / "test_log.txt").read_text()
    found = json.loads((other / "metrics.json").read_text())
    assert (found["languages"], found["num_valid"]) == (["ru"], 14)


def test_pieces_of_the_towers_tokenizer_are_left_out(place):
    cfg = load_config(cfg_tbps, "", words(TEXT_SETTINGS | {"DATASETS.ROOT_DIR": str(place)} | CHINESE))
    dataset = METHODS["tbps"].data(cfg)
    asked = []

    def pieces(run):
        asked.append(run)
        return [run[:2], run[2:]]

    tokenizer = SimpleNamespace(pieces=pieces)
    model = SimpleNamespace(encode_text=SimpleNamespace(tokenizer=tokenizer))
    vary = METHODS["tbps"].loaders(cfg, dataset, model).train.dataset.vary
    texts = {vary(dataset.train[0], seed) for seed in range(60)}
    assert set(asked) == {"穿第", "件外套的人"}
    assert {"件外套的人。", "穿第0", "穿第0件外"} <= texts
    assert not [text for text in texts if "穿" in text and "第" not in text]


def test_a_multilingual_model_learns_from_all_languages(run, place, tmp_path):
    pytest.importorskip("transformers")
    from tests.altclip import TEXTS, write_altclip

    captions = [
        text for row in json.loads((place / "train_reid.json").read_text()) for text in row["captions_zh"]
    ]
    write_altclip(tmp_path / "hub", texts=[*TEXTS, *captions])
    settings = TESTED | {"DATASETS.LANGUAGES": "['', 'zh', 'ru']", "INPUT.WORD_DELETION": 0.3}
    settings |= {"MODEL.NAME": "AltCLIP", "MODEL.PRETRAIN_PATH": str(tmp_path / "hub")}
    settings |= {"MODEL.PRETRAIN_CHOICE": "clip", "DATALOADER.NUM_WORKERS": 2}
    (first, last) = records(run("altclip", settings))
    assert first["samples"] == last["samples"] == 72 and last["num_valid"] == 38
    assert last["loss"] < 20
