"""Whole runs of text search on a tiny AltCLIP: files, resuming, compiling, and tests of what is left."""

import argparse
import json
import shutil

import pytest

pytest.importorskip("transformers")

import torch
from safetensors.torch import load_file

from config import cfg_tbps
from config.load import load_config
from datasets import PairBatch
from model import make_text_search_model
from processor import METHODS, make_text_search_objective, train
from processor import test as run_test
from tests.altclip import write_altclip
from tests.processor.running import Killed, assert_same_run, checkpoints, kill_at_step, records
from tests.toys import TEXT_SETTINGS, draw_captions, words

SIMPLE = {"MODEL.SS_LOSS_WEIGHT": 0.0, "MODEL.CITC_LOSS_WEIGHT": 0.0, "MODEL.MULTI_VIEW": False}
LAYERS = {"SOLVER.LAYER_DECAY": 0.5, "SOLVER.TEXT_LR_FACTOR": 0.5, "MODEL.TEXT_DROPOUT": 0.2}
WAYS = {
    "full": {"MODEL.TEXT_DROPOUT": 0.2},
    "little memory, rates by layer": SIMPLE
    | LAYERS
    | {"SOLVER.MICRO_BATCH": 3, "SOLVER.GRAD_CHECKPOINT": True},
    "frozen texts": SIMPLE | {"MODEL.FREEZE_TEXT": True},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = draw_captions(tmp_path_factory.mktemp("captions"))
    rows = json.loads((folder / "train_reid.json").read_text())
    write_altclip(folder / "altclip", [caption for row in rows for caption in row["captions"]])
    return folder


@pytest.fixture
def run(place, tmp_path):
    """run('a', settings, resume=False) -> its output folder."""

    def run(name, settings=(), resume=False, program=train):
        given = TEXT_SETTINGS | {"MODEL.NAME": "AltCLIP", "MODEL.PRETRAIN_CHOICE": "clip"}
        given |= {"MODEL.PRETRAIN_PATH": str(place / "altclip"), "DATASETS.ROOT_DIR": str(place)}
        given |= {"SOLVER.SAVE_EVERY_MIN": 1e-9, "SOLVER.BASE_LR": 1e-3, "OUTPUT_DIR": str(tmp_path / name)}
        args = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=resume)
        program(load_config(cfg_tbps, "", words(given | dict(settings))), args, method=METHODS["tbps"])
        return tmp_path / name

    return run


def test_a_checkpoint_is_tested_and_found_again_without_the_released_folder(run, place, tmp_path):
    folder = run("whole")
    written = {path.name for path in folder.iterdir()}
    assert {"AltCLIP_1.pth", "AltCLIP_1.json", "AltCLIP_2.pth", "tokenizer.json"} <= written
    assert records(folder)[-1]["num_valid"] == 16
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("AltCLIP_2.pth", "AltCLIP_2.json", "tokenizer.json"):
        shutil.copy(folder / name, alone)
    settings = {"MODEL.PRETRAIN_PATH": "", "TEST.WEIGHT": str(alone / "AltCLIP_2.pth")}
    tested = run("tested", settings, program=run_test)
    metrics = json.loads((tested / "metrics.json").read_text())
    assert metrics["mAP"] == pytest.approx(records(folder)[-1]["mAP"], abs=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_it_resumes_bit_for_bit_within_an_epoch(run, monkeypatch, way):
    whole = run("whole", WAYS[way])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 6)
        run("cut", WAYS[way])
    assert_same_run(run("cut", WAYS[way], resume=True), whole)


def test_frozen_texts_stay_those_of_the_file(run, place):
    folder = run("frozen", WAYS["frozen texts"])
    (trained,) = [weights for name, weights in checkpoints(folder).items() if name.endswith("_2.pth")]
    released = load_file(place / "altclip/model.safetensors")
    table = "roberta.embeddings.word_embeddings.weight"
    pairs = {table: f"text_model.{table}", "text_projection.weight": "text_projection.weight"}
    for ours, theirs in pairs.items():
        assert trained[f"encode_text.{ours}"].equal(released[theirs])
    log = (folder / "train_log.txt").read_text()
    count = sum(value.numel() for name, value in trained.items() if name.startswith("encode_text."))
    assert f"the text tower is frozen: its {count:,} parameters do not learn" in log


def test_rates_by_layer_name_all_layers(run):
    log = (
        run("layers", SIMPLE | {"SOLVER.LAYER_DECAY": 0.5, "SOLVER.MAX_EPOCHS": 1}) / "train_log.txt"
    ).read_text()
    (line,) = [line for line in log.splitlines() if "learning rates by layer" in line]
    assert line.endswith(": image 0.000125 0.00025 0.0005 0.001; text 0.000125 0.00025 0.0005 0.001")


def test_a_compiled_step_serves_captions_of_all_lengths(place):
    """Of the whole objective, as `SOLVER.COMPILE` compiles it, in as few graphs as CLIP's own tower takes."""
    given = TEXT_SETTINGS | SIMPLE | {"MODEL.NAME": "AltCLIP", "MODEL.PRETRAIN_CHOICE": "clip"}
    given |= {"MODEL.PRETRAIN_PATH": str(place / "altclip"), "MODEL.TEXT_DROPOUT": 0.2}
    config = load_config(cfg_tbps, "", words(given))
    objective, other = (
        make_text_search_objective(config, make_text_search_model(config)).train() for _ in range(2)
    )
    graphs, counts, draw = [], [], torch.Generator().manual_seed(1)
    torch.compiler.reset()
    objective.compile(backend=lambda graph, inputs: graphs.append(graph) or graph)
    images, pids, seeds = (
        torch.randn(4, 3, 32, 16, generator=draw),
        torch.tensor([0, 1, 0, 2]),
        torch.arange(4),
    )
    for length in (3, 5, 2, 6):
        captions = ["red coat " * length, "bag"] * 2
        batch = PairBatch(images, captions, pids, list("abcd"), list("abcd"), seeds)
        losses, wanted = objective(batch).losses, other(batch).losses
        torch.testing.assert_close(losses, wanted)
        counts.append(len(graphs))
    assert counts[1:] == [counts[1]] * 3


def test_parts_train_the_same_weights(run):
    whole, parts = run("whole"), run("parts", {"SOLVER.MICRO_BATCH": 3, "SOLVER.GRAD_CHECKPOINT": True})
    for one, two in zip(records(whole), records(parts), strict=True):
        assert one["loss_nitc"] == pytest.approx(two["loss_nitc"], rel=1e-3)


def test_random_weights_of_the_folders_sizes(run, place):
    folder = run("random", {"MODEL.PRETRAIN_CHOICE": "none"})
    assert "AltCLIP starts from random weights, of the sizes in" in (folder / "train_log.txt").read_text()
