"""Whole runs of text search on toy towers: what they write, how they are resumed, and their tests."""

import argparse
import functools
import json
import re
import shutil

import pytest

from config import cfg_tbps
from config.load import load_config
from processor import METHODS, train
from processor import test as run_test
from retrieval import RetrievalTask, evaluate_task, evaluate_text_search, k_reciprocal_blocks
from tests.processor.running import Killed, assert_same_run, checkpoints, equal, kill_at_step, records
from tests.toys import TEXT_SETTINGS, draw_captions, words, write_tower
from tools import evaluate

ARGS = {"config_file": "", "local_rank": 0, "traceback": False, "opts": []}
SETTINGS = TEXT_SETTINGS | {"SOLVER.SAVE_EVERY_MIN": 1e-9, "SOLVER.BASE_LR": 1e-3}
SIMPLE = {"MODEL.SS_LOSS_WEIGHT": 0.0, "MODEL.CITC_LOSS_WEIGHT": 0.0, "MODEL.MULTI_VIEW": False}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    write_tower(folder / "toy.json")
    return draw_captions(folder)


@pytest.fixture
def run(place, tmp_path):
    """run('a', resume=False, KEY=…) -> its output folder."""

    def run(name, settings=(), resume=False, program=train, file=""):
        given = SETTINGS | {"MODEL.NAME": str(place / "toy.json"), "DATASETS.ROOT_DIR": str(place)}
        given |= {"OUTPUT_DIR": str(tmp_path / name)} | dict(settings)
        args = argparse.Namespace(**ARGS | {"config_file": str(file)}, resume=resume)
        program(load_config(cfg_tbps, file, words(given)), args, method=METHODS["tbps"])
        return tmp_path / name

    return run


def test_files_and_numbers(run):
    folder = run("whole")
    written = {"train_log.txt", "config.yml", "metrics.jsonl", "last.pt", "receipt.json"}
    checkpoints = {f"toy_{epoch}.{kind}" for epoch in (1, 2) for kind in ("pth", "json")}
    assert {path.name for path in folder.iterdir()} - {".train.lock"} == written | checkpoints
    first, last = records(folder)
    assert {"loss_nitc", "loss_ritc", "loss_citc", "loss_ss", "scale", "mAP", "mINP", "rank1"} <= last.keys()
    assert first["stage"] == "tbps" and first["samples"] == 32
    assert last["num_valid"] == 16  # two captions of each of eight test images
    assert first["scale"] == pytest.approx(1 / 0.07, rel=0.1)


@pytest.mark.parametrize("settings", [{}, SIMPLE], ids=["full", "simplified"])
@pytest.mark.parametrize("step", [2, 5])
def test_it_resumes_bit_for_bit_within_an_epoch(run, monkeypatch, settings, step):
    whole = run("whole", settings)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, step)
        run("cut", settings)
    assert_same_run(run("cut", settings, resume=True), whole)


def test_a_finished_run_becomes_longer_where_its_rates_allow_it(run):
    steps = SIMPLE | {"SOLVER.SCHEDULE": "multistep", "SOLVER.STEPS": [2], "SOLVER.WARMUP_ITERS": 0}
    whole = run("whole", steps | {"SOLVER.MAX_EPOCHS": 3})
    run("longer", steps)
    assert_same_run(run("longer", steps | {"SOLVER.MAX_EPOCHS": 3}, resume=True), whole)
    run("cosine", SIMPLE)
    told = r"MAX_EPOCHS is 3, .* SOLVER\.SCHEDULE 'cosine_iterations' has other rates for another number"
    with pytest.raises(ValueError, match=told):
        run("cosine", SIMPLE | {"SOLVER.MAX_EPOCHS": 3}, resume=True)


@pytest.mark.parametrize(
    "settings",
    [{"SOLVER.LAYER_DECAY": 0.5, "SOLVER.TEXT_LR_FACTOR": 0.3}, {"MODEL.FREEZE_TEXT": True}],
    ids=["rates by layer", "frozen texts"],
)
def test_rates_by_layer_and_frozen_texts_resume_bit_for_bit(run, monkeypatch, settings):
    whole = run("whole", SIMPLE | settings)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 5)
        run("cut", SIMPLE | settings)
    assert_same_run(run("cut", SIMPLE | settings, resume=True), whole)
    words_of_log = (whole / "train_log.txt").read_text()
    assert ("learning rates by layer" in words_of_log) == ("SOLVER.LAYER_DECAY" in settings)
    assert ("the text tower is frozen" in words_of_log) == ("MODEL.FREEZE_TEXT" in settings)
    first, last = (checkpoints(whole)[f"toy_{epoch}.pth"] for epoch in (1, 2))
    moved = {name for name in first if not equal(first[name], last[name])}
    assert any(name.startswith("visual.") for name in moved)
    assert any(name.startswith("encode_text.") for name in moved) == ("MODEL.FREEZE_TEXT" not in settings)


def test_a_test_repeats_the_last_evaluation(run):
    folder = run("whole")
    weight = {"TEST.WEIGHT": str(folder / "toy_2.pth")}
    tested = run("test", weight, program=run_test)
    metrics = json.loads((tested / "metrics.json").read_text())
    last = records(folder)[-1]
    for name in ("mAP", "mINP", "rank1", "rank5", "rank10", "num_valid"):
        assert metrics[name] == pytest.approx(last[name])
    task = RetrievalTask.load(tested / "features.npz")
    ((query, gallery, rule),) = task
    assert (len(query), len(gallery), rule) == (16, 8, "all")
    again = evaluate_text_search(query.features, gallery.features, query.pids, gallery.pids)
    assert again.mAP == pytest.approx(metrics["mAP"]) == evaluate_task(task.normalized()).mAP


def test_captions_for_images(run):
    folder = run("whole", {"SOLVER.MAX_EPOCHS": 1})
    settings = {"TEST.WEIGHT": str(folder / "toy_1.pth"), "TEST.DIRECTION": "image_to_text"}
    tested = run("test", settings, program=run_test)
    ((query, gallery, _),) = RetrievalTask.load(tested / "features.npz")
    assert (len(query), len(gallery)) == (8, 16) and "#" in gallery.keys[0]
    assert json.loads((tested / "metrics.json").read_text())["direction"] == "image_to_text"


def test_captions_that_the_model_does_not_read_whole_are_counted(run):
    folder = run("whole", {"MODEL.TEXT_LENGTH": 8, "SOLVER.MAX_EPOCHS": 1})  # 10 tokens and 7 of each image
    assert " 24 of 48 captions are cut at 8 tokens" in (folder / "train_log.txt").read_text()
    weight = {"TEST.WEIGHT": str(folder / "toy_1.pth")}
    tested = run("test", weight, program=run_test)
    assert " 8 of 16 captions are cut at 8 tokens" in (tested / "test_log.txt").read_text()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.SS_LOSS_WEIGHT", 0.0),
        ("MODEL.ID_LOSS_WEIGHT", 1.0),
        ("MODEL.MLM_LOSS_WEIGHT", 1.0),
        ("TEST.DIRECTION", "image_to_text"),
        ("MODEL.FREEZE_TEXT", True),
        ("SOLVER.LAYER_DECAY", 0.5),
        ("SOLVER.TEXT_LR_FACTOR", 0.5),
    ],
)
def test_what_learns_and_the_direction_stay_when_a_run_is_resumed(run, key, value):
    run("whole", {"SOLVER.MAX_EPOCHS": 1})
    with pytest.raises(ValueError, match=rf"^{key} is {value!r}, but the run in .*last\.pt has "):
        run("whole", {key: value}, resume=True)


def test_directions_and_re_ranking_are_those_of_the_tool_and_the_library(run, tmp_path):
    weight = {"TEST.WEIGHT": str(run("whole", {"SOLVER.MAX_EPOCHS": 1}) / "toy_1.pth")}
    features = run("plain", weight, program=run_test) / "features.npz"
    task = RetrievalTask.load(features).normalized()
    k1, k2, lam = 4, 2, 0.3
    settings = {
        "TEST.RE_RANKING": True,
        "TEST.RERANK_K1": k1,
        "TEST.RERANK_K2": k2,
        "TEST.RERANK_LAMBDA": lam,
    }
    rerank = functools.partial(k_reciprocal_blocks, k1=k1, k2=k2, lam=lam)
    options = ["--rerank", "--k1", str(k1), "--k2", str(k2), "--lam", str(lam)]
    for direction, swap in (("text_to_image", []), ("image_to_text", ["--swap"])):
        more = weight | settings | {"TEST.DIRECTION": direction}
        tested = json.loads((run(direction, more, program=run_test) / "metrics.json").read_text())
        out = tmp_path / "again.json"
        assert evaluate.main(["--features", str(features), "--out", str(out), *options, *swap]) == 0
        again = json.loads(out.read_text())
        wanted = evaluate_task(task.swapped() if swap else task, rerank=rerank)
        for name in ("mAP", "mINP", "num_valid"):
            assert tested[name] == again[name] == getattr(wanted, name)


@pytest.mark.parametrize(
    "settings",
    [
        {"MODEL.NAME": "toy-resnet", "INPUT.SIZE_TRAIN": "[64, 32]", "INPUT.SIZE_TEST": "[64, 32]"},
        {"MODEL.STRIDE_SIZE": "[4, 8]"},
        {"SOLVER.AMP": "bf16", "TEST.AMP": "bf16"},
        {"TEST.RE_RANKING": True, "TEST.RERANK_K1": 3, "TEST.RERANK_K2": 2},
        {"MODEL.TEXT_LENGTH": 7, "DATALOADER.NUM_WORKERS": 2},
        {"SOLVER.EVAL_PERIOD": 2, "TEST.EVAL_BEFORE_TRAINING": True, "INPUT.ORIENTATION": "exif"},
    ],
    ids=["ResNet", "overlapping patches", "bf16", "re-ranking", "short texts, workers", "before training"],
)
def test_other_settings(run, place, settings):
    if settings.get("MODEL.NAME"):
        settings = settings | {"MODEL.NAME": str(write_tower(place / "resnet.json", "toy-resnet"))}
    lines = records(run("run", settings))
    assert (
        all(line["loss"] < 20 for line in lines if line["stage"] == "tbps") and lines[-1]["num_valid"] == 16
    )


def test_the_validation_split_chooses_the_epoch_that_is_kept(run, place, monkeypatch):
    shutil.copy(place / "test_reid.json", place / "val_reid.json")
    settings = {"SOLVER.KEEP_BEST": True, "DATASETS.EVAL_SPLIT": "val", "SOLVER.MAX_EPOCHS": 4}
    whole = run("whole", settings)
    ranks = [line["rank1"] for line in records(whole)]
    epoch = ranks.index(max(ranks)) + 1
    files = checkpoints(whole)
    assert equal(files["toy_best.pth"], files[f"toy_{epoch}.pth"]) and (whole / "toy_best.json").is_file()
    log = (whole / "train_log.txt").read_text()
    assert re.search(r"INFO: .*toy_best\.pth will hold .* on the val split\n", log)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 11)
        run("cut", settings)
    assert_same_run(run("cut", settings, resume=True), whole)
    weight = {"TEST.WEIGHT": str(whole / "toy_best.pth"), "DATASETS.EVAL_SPLIT": "val"}
    tested = json.loads((run("test", weight, program=run_test) / "metrics.json").read_text())
    assert tested["rank1"] == pytest.approx(max(ranks))


def test_a_published_file_trains_and_tests(run, tmp_path):
    """The log tells what it means; what it leaves open comes from KEY VALUE pairs."""
    file, saved = tmp_path / "config.yaml", tmp_path / "whole/toy_1.pth"
    file.write_text(
        "device: 5\nexperiment: {ss: false, mvs_image: false, ss_ratio: 0.4}\n"
        "model: {ckpt_type: original_clip, checkpoint: CLIP checkpoint path, saved_path: out}\n"
    )
    whole = run("whole", {"SOLVER.MAX_EPOCHS": 1}, file=file)
    assert {name for name in records(whole)[0] if name.startswith("loss_")} == {
        "loss_nitc",
        "loss_ritc",
        "loss_citc",
    }
    log = (whole / "train_log.txt").read_text()
    for line in (
        "4 keys of published files are translated:",
        "experiment.ss False -> MODEL.SS_LOSS_WEIGHT 0.0",
        "device 5 has no effect: ",
        "model.checkpoint 'CLIP checkpoint path' has no effect: ",
    ):
        assert line in log
    file.write_text(f"model: {{ckpt_type: saved, checkpoint: none, saved_path: {saved}}}\n")
    tested = run("test", program=run_test, file=file)
    assert json.loads((tested / "metrics.json").read_text())["weight"] == str(saved)


def test_a_run_at_no_rate_is_warned_once(run):
    folder = run("still", {"SOLVER.BASE_LR": 1e-12, "SOLVER.MAX_EPOCHS": 2})
    lines = (folder / "train_log.txt").read_text().splitlines()
    (warning,) = [line for line in lines if "seems to learn nothing" in line]
    assert "tbps seems to learn nothing: Rank-1 is " in warning and "SOLVER.BASE_LR 1e-12" in warning
