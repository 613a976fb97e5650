"""Runs of CLIP-ReID with captions: stage 0, captions in stages 1 and 2, stages that are found again."""

import argparse
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from processor import METHODS
from processor import test as run_test
from processor.recipes.captions import ImageCaptions
from tests.processor.running import Killed, assert_same_run, checkpoints, equal, kill_at_step, last, records

COLOURS = ("red", "green", "blue", "white")
STAGE0 = {
    "SOLVER.STAGE0.MAX_EPOCHS": 2,
    "SOLVER.STAGE0.IMS_PER_BATCH": 3,
    "SOLVER.STAGE0.BASE_LR": 1e-3,
    "SOLVER.STAGE0.IMAGE_LR": 1e-3,
    "SOLVER.STAGE0.TEXT_LR": 1e-3,
    "SOLVER.STAGE0.TOKEN_LR": 1e-2,
    "SOLVER.STAGE0.WARMUP_ITERS": 0,
    "SOLVER.STAGE0.EVAL_PERIOD": 1,
}
GRAPHS = {
    "SOLVER.STAGE1.SAMPLER": "graph",
    "SOLVER.STAGE1.IMS_PER_BATCH": 4,
    "DATALOADER.SAMPLER": "graph",
    "MODEL.PROMPT.IN_CAPTIONS": True,
    "SOLVER.STAGE0.IDENTITY_TARGETS": True,
    "SOLVER.STAGE2.CAPTIONS_EVERY": 2,
}
USED = {"SOLVER.STAGE1.CAPTIONS": True, "SOLVER.STAGE2.CAPTIONS": 0.7, "SOLVER.STAGE2.CAPTIONS_EVERY": 1}


@pytest.fixture
def captions(market_tree, tmp_path):
    """A file that describes six of the eight training images."""
    folder = market_tree / "Market-1501-v15.09.15/bounding_box_train"
    names = sorted(path.name for path in folder.iterdir())[:6]
    texts = {n: [f"a person in {COLOURS[int(n[:4]) - 1]}", f"camera {n[6]}"] for n in names}
    (tmp_path / "captions.json").write_text(json.dumps(texts))
    return str(tmp_path / "captions.json")


@pytest.fixture
def run(trained, captions, tmp_path):
    """run('folder', {KEY: VALUE}, resume=False) -> its output folder."""

    def start(folder, keys, resume=False):
        given = {"DATASETS.CAPTIONS": captions, "OUTPUT_DIR": str(tmp_path / folder)} | keys
        return trained("clipreid", *(word for pair in given.items() for word in pair), resume=resume)[1]

    return start


@pytest.mark.parametrize("more", [{}, {"MODEL.PROMPT.IN_CAPTIONS": True}])
def test_the_memory_of_all_stages_is_foretold(run, outlook, more):
    outlook()
    log = (run("run", STAGE0 | USED | more) / "train_log.txt").read_text()
    assert "is not known" not in log
    rows = [line.split() for line in log.split("Before the run")[1].splitlines()[2:5]]
    assert [row[:3] for row in rows] == [["stage0", "2", "2"], ["stage1", "2", "2"], ["stage2", "2", "2"]]
    assert all(len(row) == 9 and float(row[-1]) > 0 for row in rows)


@pytest.mark.parametrize("tower", ["toy-vit", "toy-resnet"])
def test_all_three_stages(run, tower):
    folder = run("run", STAGE0 | USED | {"MODEL.NAME": tower})
    files = checkpoints(folder)
    before, after = files[f"{tower}_stage0_2.pth"], files[f"{tower}_stage1_2.pth"]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    # Stage 1 moves the prompts alone; their words are read anew from the table that stage 0 has moved.
    words = {"prompt_learner.token_prefix", "prompt_learner.token_suffix"}
    assert moved == words | {"prompt_learner.cls_ctx"}
    table, tokens = after["text_encoder.token_embedding.weight"], after["prompt_learner.token_prefix"]
    assert torch.equal(tokens[0, 0], table[49406])  # the start of text
    lines = records(folder)
    first = [line for line in lines if line["stage"] == "stage0"]
    assert [line["epoch"] for line in first] == [1, 2] and all("mAP" in line for line in first)
    assert {"loss", "acc_i2t", "acc_t2i"} <= first[0].keys()
    assert "6 of 8 training images" in (folder / "train_log.txt").read_text()


@pytest.mark.parametrize("step", [1, 3, 5, 8, 9, 11])
@pytest.mark.parametrize("more", [{}, GRAPHS], ids=["plain", "graphs"])
def test_a_run_cut_anywhere_resumes_bit_for_bit(run, monkeypatch, step, more):
    keys = STAGE0 | USED | more | {"SOLVER.SAVE_EVERY_MIN": 1e-9}
    whole = run("whole", keys)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, step)
        run("cut", keys)
    assert_same_run(run("cut", keys, resume=True), whole)


def test_captions_change_what_stage_1_learns(run):
    losses = {}
    for name, keys in {
        "none": {},
        "constant": {"SOLVER.STAGE1.CAPTIONS": True},
        "beside": {"SOLVER.STAGE1.CAPTIONS": True, "MODEL.PROMPT.IN_CAPTIONS": True},
    }.items():
        losses[name] = [line["loss"] for line in records(run(name, keys)) if line["stage"] == "stage1"]
    assert len({tuple(values) for values in losses.values()}) == 3


def test_texts_of_identities_are_drawn_every_so_many_epochs(run):
    keys = {"MAIN.MAX_EPOCHS": 4, "SOLVER.STAGE2.CAPTIONS": 1.0, "SOLVER.STAGE2.CAPTIONS_EVERY": 3}
    log = (run("run", keys) / "train_log.txt").read_text()
    assert [f"Epoch {n}: the texts of 3 of 4 identities are captions" in log for n in (1, 2, 3, 4)] == [
        True,
        False,
        False,
        True,
    ]


def test_what_is_drawn():
    keys, captions = ["a", "b", "c", "d"], {"a": ["a0", "a1"], "c": ["c0"], "d": ["d0"]}
    drawn = ImageCaptions(keys, captions, seed=1)
    rows = np.array([drawn.draw(epoch) for epoch in range(40)])
    assert set(rows[:, 0]) == {0, 1} and set(rows[:, 1]) == {-1} and set(rows[:, 2]) == {2}
    assert (drawn.draw(3) == rows[3]).all()
    pids = np.array([0, 1, 0, 2])
    found = [drawn.draw_identities(pids, epoch, 1.0) for epoch in range(60)]
    assert {texts[0] for texts in found} == {"a0", "a1", "c0"}
    assert {texts[1] for texts in found} == {None} and {texts[2] for texts in found} == {"d0"}
    share = np.mean(
        [texts[2] is not None for texts in (drawn.draw_identities(pids, e, 0.7) for e in range(400))]
    )
    assert 0.62 < share < 0.78


ARGS = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=False)
SKIPS = {"SOLVER.SKIP_FINISHED": True}


def test_finished_stages_are_found(run, caplog, monkeypatch):
    keys = STAGE0 | SKIPS
    whole = run("run", keys)
    wanted = checkpoints(whole)
    for name in ("toy-vit_2.pth", "last.pt"):
        (whole / name).unlink()
    before = len(records(whole))
    again = run("run", keys)
    assert "stage0, stage1 left out, to train: stage2" in (again / "train_log.txt").read_text()
    assert {line["stage"] for line in records(again)[before:]} == {"stage2"}
    for name, value in checkpoints(again)["toy-vit_2.pth"].items():
        assert value.shape == wanted["toy-vit_2.pth"][name].shape
    trained, kept = len(records(again)), last(again)
    assert "to train: nothing" in (run("run", keys) / "train_log.txt").read_text()
    assert len(records(again)) == trained and equal(last(again), kept)
    run("run", keys | {"MAIN.MAX_EPOCHS": 3})
    assert sorted(path.name for path in again.glob("last*")) == ["last.former.pt", "last.pt"]


def test_a_file_that_does_not_fit_is_refused(run):
    folder = run("run", SKIPS)
    (folder / "toy-vit_2.pth").unlink()
    run("run", SKIPS | {"SOLVER.STAGE2.BASE_LR": 5e-4})  # of the stage that is still to train
    (folder / "toy-vit_2.pth").unlink()
    for keys, words in (
        ({"SOLVER.STAGE1.BASE_LR": 0.5}, ("SOLVER.STAGE1.BASE_LR", "0.5", "toy-vit_stage1_2.pth")),
        ({"SOLVER.SEED": 5}, ("SOLVER.SEED", "5")),
        ({"DATASETS.CAPTIONS": ""}, ("DATASETS.CAPTIONS", "toy-vit_stage1_2.pth")),
        ({"INPUT.PIXEL_MEAN": [0.5, 0.5, 0.5]}, ("INPUT.PIXEL_MEAN", "toy-vit_stage1_2.pth")),
        ({"MODEL.PRETRAIN_TAG": "laion2b_s34b_b79k"}, ("MODEL.PRETRAIN_TAG", "laion2b")),
    ):
        with pytest.raises(ValueError, match=words[0]) as caught:
            run("run", SKIPS | keys)
        assert all(word in str(caught.value) for word in words)
    by_graph = SKIPS | {"SOLVER.STAGE1.SAMPLER": "graph", "SOLVER.STAGE1.IMS_PER_BATCH": 4}
    (run("graph", by_graph) / "toy-vit_2.pth").unlink()
    with pytest.raises(ValueError, match="GRAPH_DISTANCE"):
        run("graph", by_graph | {"DATALOADER.GRAPH_DISTANCE": "dot"})


def test_a_file_of_other_data_is_refused(run, captions, market_tree, tmp_path):
    folder = run("run", SKIPS | STAGE0)
    (folder / "toy-vit_2.pth").unlink()
    with pytest.raises(ValueError, match=r"SOLVER\.STAGE0\.MAX_EPOCHS is 0"):
        run("run", SKIPS)
    texts = json.loads(Path(captions).read_text())
    Path(captions).write_text(json.dumps(texts | {next(iter(texts)): ["somebody else"]}))
    with pytest.raises(ValueError, match="other captions"):
        run("run", SKIPS | STAGE0)
    Path(captions).write_text(json.dumps(texts))
    shutil.copytree(market_tree, tmp_path / "others")
    image = next((tmp_path / "others/Market-1501-v15.09.15/bounding_box_train").iterdir())
    image.rename(image.with_name(image.name.replace("_000000_", "_000009_")))
    with pytest.raises(ValueError, match="other files"):
        run("run", SKIPS | STAGE0 | {"DATASETS.ROOT_DIR": str(tmp_path / "others")})


def test_a_file_that_no_stage_ended_with_is_refused(run):
    keys = {"SOLVER.STAGE1.MAX_EPOCHS": 3, "SOLVER.STAGE1.CHECKPOINT_PERIOD": 2}
    folder = run("run", keys)
    with pytest.raises(ValueError, match=r"stage1_2\.pth has no toy-vit_stage1_2\.settings\.json"):
        run("run", SKIPS | {"SOLVER.STAGE1.MAX_EPOCHS": 2, "MAIN.MAX_EPOCHS": 1})
    (folder / "toy-vit_2.pth").unlink()
    run("run", SKIPS | keys | {"MAIN.MAX_EPOCHS": 1})  # of a run without the key
    assert "stage1 left out" in (folder / "train_log.txt").read_text()
    (folder / "toy-vit_1.pth").unlink()
    state = torch.load(folder / "toy-vit_stage1_3.pth", weights_only=True)
    torch.save(
        state | {"prompt_learner.cls_ctx": 2 * state["prompt_learner.cls_ctx"]},
        folder / "toy-vit_stage1_3.pth",
    )
    with pytest.raises(ValueError, match=r"settings\.json is not of the toy-vit_stage1_3\.pth"):
        run("run", SKIPS | keys | {"MAIN.MAX_EPOCHS": 1})


def test_stage_2_with_captions_starts_from_any_file_of_stage_1(run, tmp_path):
    plain = run("plain", {"DATASETS.CAPTIONS": ""}) / "toy-vit_stage1_2.pth"
    folder = run("run", {"MODEL.STAGE1_WEIGHT": str(plain), "SOLVER.STAGE2.CAPTIONS": 1.0})
    assert {line["stage"] for line in records(folder)} == {"stage2"}
    assert "no table of word embeddings" in (folder / "train_log.txt").read_text()
    described = run("described", {}) / "toy-vit_stage1_2.pth"
    run("again", {"MODEL.STAGE1_WEIGHT": str(described), "DATASETS.CAPTIONS": ""})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"DATASETS.CAPTIONS": "", "SOLVER.STAGE0.MAX_EPOCHS": 1}, ["SOLVER.STAGE0.MAX_EPOCHS", "CAPTIONS"]),
        ({"MODEL.PROMPT.DEEP_TEXT": 1}, ["MODEL.PROMPT.DEEP_TEXT", "DATASETS.CAPTIONS"]),
        ({"SOLVER.STAGE1.CAPTIONS": True, "SOLVER.STAGE1.TRAIN_TEXT": True}, ["TRAIN_TEXT", "CAPTIONS"]),
        (
            {"SOLVER.STAGE0.MAX_EPOCHS": 1, "SOLVER.STAGE0.IMS_PER_BATCH": 7},
            ["STAGE0.IMS_PER_BATCH", "7", "6"],
        ),
    ],
)
def test_settings_that_do_not_go_together(run, keys, words, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="allowed") as caught:
        run("run", keys)
    assert all(word in str(caught.value) for word in words)


def test_a_file_with_the_table_of_words_is_tested(run, toy_config, captions, tmp_path):
    folder = run("run", STAGE0 | {"MAIN.EVAL_PERIOD": 2})
    weight = ("TEST.WEIGHT", str(folder / "toy-vit_2.pth"), "OUTPUT_DIR", str(tmp_path / "test"))
    run_test(toy_config(*weight), ARGS, method=METHODS["clipreid"])
    tested = json.loads((tmp_path / "test/metrics.json").read_text())
    assert tested["mAP"] == pytest.approx(records(folder)[-1]["mAP"])


def test_another_image_stands_in_for_one_that_cannot_be_read(run, market_tree, tmp_path):
    shutil.copytree(market_tree, tmp_path / "damaged")
    folder = tmp_path / "damaged/Market-1501-v15.09.15/bounding_box_train"
    min(folder.iterdir()).write_bytes(b"no image")
    keys = {"DATASETS.ROOT_DIR": str(tmp_path / "damaged"), "DATASETS.CHECK_IMAGES": False}
    with pytest.raises(ValueError, match="more than"):  # one of eight is more than 1 %
        run("skip", STAGE0 | keys | {"DATALOADER.ON_ERROR": "skip"})
    with pytest.raises(ValueError, match="cannot be read"):
        run("raise", STAGE0 | keys)


def test_a_missing_file_of_captions_is_named_with_what_fetches_it(run, market_tree, tmp_path):
    shutil.copytree(market_tree, tmp_path / "data")
    keys = {"DATASETS.CAPTIONS": "CUHK-PEDES/reid_raw.json", "DATASETS.ROOT_DIR": str(tmp_path / "data")}
    with pytest.raises(FileNotFoundError, match=r"reid_raw\.json.*tools/download\.py cuhk_pedes_captions"):
        run("run", keys)
    with pytest.raises(FileNotFoundError, match=r"mine\.json") as caught:
        run("run", keys | {"DATASETS.CAPTIONS": "mine.json"})
    assert "download" not in str(caught.value)


def test_what_has_no_effect_and_what_is_cut_is_told(run, captions):
    log = (
        run("alone", {"MODEL.PROMPT.IN_CAPTIONS": True, "SOLVER.STAGE0.TEMPERATURE": 0.1}) / "train_log.txt"
    ).read_text()
    for key in ("DATASETS.CAPTIONS", "MODEL.PROMPT.IN_CAPTIONS", "SOLVER.STAGE0.TEMPERATURE"):
        assert f"{key} " in log and "has no effect" in log.split(f"WARNING: {key} ")[1].splitlines()[0]
    texts = json.loads(Path(captions).read_text())
    Path(captions).write_text(json.dumps(texts | {next(iter(texts)): [" ".join(["coat"] * 74)]}))
    for beside, is_cut in ((False, False), (True, True)):
        keys = {"SOLVER.STAGE1.CAPTIONS": True, "MODEL.PROMPT.IN_CAPTIONS": beside}
        log = (run(f"cut{beside}", keys) / "train_log.txt").read_text()
        assert ("1 of 11 captions are cut: they have more than 73 tokens" in log) == is_cut
