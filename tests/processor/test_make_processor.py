"""Whole runs in this process: output folder, log, records, the same numbers for the same seed, testing."""

import argparse
import json
import logging
import re

import pytest
import torch

from config import cfg, cfg_base, cfg_pcl
from config.load import load_config
from datasets import ImageRecord, ReIDDataset, Trial
from processor import METHODS, make_parts, train
from processor.make_parts import image_data, image_model
from processor.make_recipes import make_plan
from tests.processor.running import run_test

ARGS = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=False)
TREES = {"baseline": cfg_base, "clipreid": cfg, "pcl": cfg_pcl}
FULL_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} transreid (INFO|WARNING): (.*)")


def messages(file):
    """The messages of a log; every line that does not go on with a message has the published form."""
    found = [FULL_LINE.fullmatch(line) for line in file.read_text().splitlines()]
    return [match[2] for match in found if match]


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# ---- training

RATE = r"Base Lr: \d\.\d\de[-+]\d\d"
ITERATION = rf"Epoch\[(\d+)\] Iteration\[(\d+)/(\d+)\] Loss: \d+\.\d{{3}}, (Acc: \d\.\d{{3}}, )?{RATE}"
DONE = r"Epoch (\d+) done\. Time per batch: \d+\.\d{3}\[s\] Speed: \d+\.\d\[samples/s\]"
RESULT = [
    r"mAP: \d+\.\d%",
    r"CMC curve, Rank-1  :\d+\.\d%",
    r"CMC curve, Rank-5  :\d+\.\d%",
    r"CMC curve, Rank-10 :\d+\.\d%",
    r"mINP: \d+\.\d%",
]


def matching(lines, pattern):
    return [found for line in lines if (found := re.fullmatch(pattern, line))]


@pytest.mark.parametrize("tower", ["toy-vit", "toy-resnet"])
@pytest.mark.parametrize("recipe", TREES)
def test_output_folder(trained, recipe, tower):
    _, folder = trained(recipe, "MODEL.NAME", tower, "MAIN.CHECKPOINT_PERIOD", 1, "MAIN.EVAL_PERIOD", 1)
    stages = [f"{tower}_stage1_2.pth", f"{tower}_stage1_2.json"] if recipe == "clipreid" else []
    stages += [f"{tower}{part}_2.settings.json" for part in ("_stage1", "") if recipe == "clipreid"]
    expected = {"train_log.txt", "config.yml", "metrics.jsonl", "last.pt", "receipt.json", *stages}
    assert {path.name for path in folder.iterdir()} == expected | {
        f"{tower}_{n}.{kind}" for n in (1, 2) for kind in ("pth", "json")
    }
    weights = torch.load(folder / f"{tower}_2.pth", weights_only=True)
    assert {name.split(".")[0] for name in weights} >= {"image_encoder", "bottleneck", "classifier"}
    assert ("prompt_learner.cls_ctx" in weights) == (recipe == "clipreid")


def test_log_of_two_stages(trained, capsys):
    config, folder = trained("clipreid", "MAIN.EVAL_PERIOD", 2)
    lines = messages(folder / "train_log.txt")
    assert lines[0] == f"Saving model in the path :{config.OUTPUT_DIR}"
    assert lines[1] == str(ARGS) and lines[2].startswith("Running with config:")
    iterations = matching(lines, ITERATION)
    # Two batches an epoch, fewer than LOG_PERIOD: one line at its end. Stage 1 shows no accuracy.
    assert [found.group(1, 2, 3) for found in iterations] == [("1", "2", "2"), ("2", "2", "2")] * 2
    assert [bool(found[4]) for found in iterations] == [False, False, True, True]
    assert [found[1] for found in matching(lines, DONE)] == ["1", "2"] * 2
    at = lines.index("Validation Results - Epoch: 2")
    assert all(re.fullmatch(want, got) for want, got in zip(RESULT, lines[at + 1 : at + 6], strict=True))
    assert lines.index("stage1: 2 epochs") < lines.index("stage2: 2 epochs") < at
    out, err = capsys.readouterr()
    written = (folder / "train_log.txt").read_text()
    # On the terminal the settings wait until data and weights are found.
    assert sorted(out.splitlines()) == sorted(written.splitlines()) and err == ""
    settings, table = "Running with config:", "# images |"
    assert written.index(settings) < written.index(table) and out.index(table) < out.index(settings)
    assert "\r" not in out and "it/s" not in out


def test_log_names_the_configuration_file_and_shows_all_settings_once(toy_config, tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text("# my own\nSOLVER:\n  SEED: 5\n")
    args = argparse.Namespace(**vars(ARGS) | {"config_file": str(file)})
    config = toy_config("SOLVER.SEED", 5, tree=cfg_base)
    train(config, args, method=METHODS["baseline"])
    text = (tmp_path / "run" / "train_log.txt").read_text()
    at = text.index(f"Loaded configuration file {file}\n")
    assert at < text.index("Running with config:\n") and text.count("SEED: 5") == 1 and "# my own" not in text


@pytest.mark.parametrize("recipe", TREES)
def test_config_yml_is_the_configuration(trained, recipe):
    config, folder = trained(recipe, "SOLVER.SEED", 5)
    again = load_config(TREES[recipe], str(folder / "config.yml"))
    assert again == config and again.SOLVER.SEED == 5


def test_records_of_two_stages(trained):
    _, folder = trained("clipreid", "MAIN.EVAL_PERIOD", 1, "TEST.EVAL_BEFORE_TRAINING", True)
    lines = records(folder)
    assert [(line["stage"], line["epoch"]) for line in lines] == [
        ("untrained", 0),
        ("stage1", 1),
        ("stage1", 2),
        ("stage2", 1),
        ("stage2", 2),
    ]
    metrics = {"mAP", "mINP", "rank1", "rank5", "rank10", "num_valid"}
    assert all(metrics <= set(lines[i]) for i in (0, 3, 4)) and not any(
        metrics & set(lines[i]) for i in (1, 2)
    )
    trained = {"stage", "epoch", "lr", "loss", "loss_i2t", "loss_t2i", "seconds", "samples", "time"}
    assert set(lines[1]) == trained
    assert {"loss_id", "loss_triplet", "loss_i2t", "acc"} <= set(lines[3])
    assert [line["samples"] for line in lines[1:]] == [8] * 4
    assert "Validation Results - Epoch: 0" in messages(folder / "train_log.txt")


def test_rates_are_those_of_the_schedules(trained):
    pairs = (
        "MAIN.WARMUP_ITERS",
        2,
        "MAIN.WARMUP_FACTOR",
        0.1,
        "MAIN.STEPS",
        [2],
        "SOLVER.STAGE1.LR_MIN",
        0.0,
    )
    _, folder = trained("clipreid", *pairs)
    rates = [line["lr"] for line in records(folder)]
    # Index 0 of a schedule is never used: of a cosine over two epochs, half the rate and the end remain.
    assert rates[:2] == pytest.approx([0.01, 0.0])
    assert rates[2:] == pytest.approx([1e-3 * 0.55, 1e-3 * 0.1])


def numbers(folder):
    return [{k: v for k, v in line.items() if k not in ("seconds", "time")} for line in records(folder)]


@pytest.mark.parametrize("recipe", TREES)
def test_the_same_seed_gives_the_same_losses(trained, tmp_path, recipe):
    runs = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(len(runs))  # whatever happened before must not matter
        _, folder = trained(recipe, "OUTPUT_DIR", str(tmp_path / name), "SOLVER.SEED", seed)
        runs.append(numbers(folder))
    assert runs[0] == runs[1]
    assert all(first["loss"] != third["loss"] for first, third in zip(runs[0], runs[2], strict=True))


def test_plan_of_each_stage(toy_config):
    config = toy_config("MAIN.EVAL_PERIOD", 3, "SOLVER.STAGE1.CHECKPOINT_PERIOD", 7, "MAIN.LOG_PERIOD", 9)
    prompts, image = make_plan(config, "stage1"), make_plan(config, "main")
    assert (prompts.epochs, prompts.batch_size, prompts.checkpoint_period, prompts.eval_period) == (
        2,
        5,
        7,
        None,
    )
    assert (image.epochs, image.batch_size, image.log_period, image.eval_period) == (2, 4, 9, 3)
    one_stage = make_plan(toy_config("MAIN.MAX_EPOCHS", 6, tree=cfg_base), "main")
    assert (one_stage.epochs, one_stage.batch_size, one_stage.checkpoint_period) == (6, 4, 5)


def test_training_needs_an_output_folder(toy_config):
    with pytest.raises(ValueError, match="OUTPUT_DIR is empty; allowed: a folder"):
        train(toy_config("OUTPUT_DIR", ""), ARGS, method=METHODS["clipreid"])


def test_side_information_follows_the_training_cameras(trained):
    _, folder = trained("baseline", "MODEL.SIE_CAMERA", True, "MODEL.SIE_COE", 1.0)
    assert torch.load(folder / "toy-vit_2.pth", weights_only=True)["cv_embed"].shape == (2, 64)


# ---- testing


@pytest.mark.parametrize(
    "pairs", [(), ("MODEL.SIE_CAMERA", True, "MODEL.SIE_COE", 2.0, "MODEL.STRIDE_SIZE", [4, 8])]
)
@pytest.mark.parametrize("tested_by", TREES)
@pytest.mark.parametrize("recipe", TREES)
def test_testing_repeats_the_last_validation(trained, toy_config, tmp_path, recipe, tested_by, pairs):
    _, folder = trained(recipe, *pairs)
    lines = messages(folder / "train_log.txt")
    at = lines.index("Validation Results - Epoch: 2")
    weight = ("TEST.WEIGHT", str(folder / "toy-vit_2.pth"), "OUTPUT_DIR", str(tmp_path / "test"))
    run_test(toy_config(*pairs, *weight, tree=TREES[tested_by]), ARGS)
    tested = messages(tmp_path / "test" / "test_log.txt")
    assert tested[-6] == "Validation Results " and tested[-5:] == lines[at + 1 : at + 6]
    written = {"test_log.txt", "features.npz", "metrics.json", "receipt.json"}
    assert {path.name for path in (tmp_path / "test").iterdir()} == written


def test_testing_without_an_output_folder_writes_nothing(trained, toy_config, tmp_path, capsys, monkeypatch):
    _, folder = trained("baseline")
    capsys.readouterr()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run_test(toy_config("OUTPUT_DIR", "", "TEST.WEIGHT", str(folder / "toy-vit_2.pth")), ARGS)
    assert not list((tmp_path / "here").iterdir())
    assert len(matching(messages_of(capsys.readouterr().out), RESULT[0])) == 1


def messages_of(text):
    return [found[2] for line in text.splitlines() if (found := FULL_LINE.fullmatch(line))]


@pytest.mark.parametrize("has_card", [True, False])
def test_testing_adopts_the_files_size(trained, toy_config, tmp_path, has_card):
    _, folder = trained("baseline", "INPUT.SIZE_TRAIN", [128, 64], "INPUT.SIZE_TEST", [128, 64])
    lines = messages(folder / "train_log.txt")
    adopted = "INPUT.SIZE_TEST [32, 16] is replaced by [128, 64] of the model card"
    if not has_card:
        (folder / "toy-vit_2.json").unlink()
        adopted = "size (128, 64) adopted from the file instead of (32, 16)"
    weight = ("TEST.WEIGHT", str(folder / "toy-vit_2.pth"), "OUTPUT_DIR", str(tmp_path / "test"))
    run_test(toy_config(*weight), ARGS)
    tested = messages(tmp_path / "test" / "test_log.txt")
    assert any(adopted in line for line in tested)
    at = lines.index("Validation Results - Epoch: 2")
    assert tested[-5:] == lines[at + 1 : at + 6]


# ---- cameras and views


def record(camid, viewid=0, path="a.jpg"):
    return ImageRecord(path, 0, camid, viewid)


@pytest.mark.parametrize(
    ("ids", "counts"), [([(0, 0), (5, 0)], (6, 1)), ([(0, 7), (3, 2)], (4, 8)), ([(2, 0), (4, 0)], (5, 1))]
)
def test_the_side_information_reaches_the_highest_id(toy_config, ids, counts):
    dataset = ReIDDataset("x", [record(*each) for each in ids], [Trial([], [])], "person")
    config = toy_config("MODEL.SIE_CAMERA", True, "MODEL.SIE_VIEW", True, tree=cfg_base)
    model = image_model(config, dataset, pretrained=False)
    assert model.side_information[:2] == counts and len(model.cv_embed) == counts[0] * counts[1]


def test_side_information_needs_the_camera_of_every_image(toy_config, monkeypatch):
    images = [record(0), record(-1, path="dir/unknown.jpg")]
    dataset = ReIDDataset("x", images, [Trial([], [])], "person")
    monkeypatch.setattr(make_parts, "make_dataset", lambda *_, **__: dataset)
    with pytest.raises(ValueError, match=r"SIE_CAMERA is True but no camera is known of dir/unknown\.jpg"):
        image_data(toy_config("MODEL.SIE_CAMERA", True))
    assert image_data(toy_config("MODEL.SIE_VIEW", True)) is dataset


def test_logs_go_to_one_place_at_a_time(trained, tmp_path):
    for name in ("a", "b"):
        trained("baseline", "OUTPUT_DIR", str(tmp_path / name))
    logs = [(tmp_path / name / "train_log.txt").read_text() for name in ("a", "b")]
    assert f"path :{tmp_path / 'b'}" not in logs[0] and f"path :{tmp_path / 'a'}" not in logs[1]
    assert len(logging.getLogger("transreid").handlers) == 2
