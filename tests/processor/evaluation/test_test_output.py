"""What a test leaves in its output folder, and re-ranking in the programs."""

import argparse
import json

import torch

from retrieval import RetrievalTask, evaluate_task, k_reciprocal_distance, metrics_record
from tests.processor.running import run_test

ARGS = argparse.Namespace(config_file="", opts=[])


def messages(file):
    return [line.partition("INFO: ")[2] for line in file.read_text().splitlines()]


def test_features_and_metrics_of_a_test(trained, toy_config, tmp_path):
    """From the file alone come the numbers that were logged and written."""
    _, folder = trained("baseline")
    weight = str(folder / "toy-vit_2.pth")
    pairs = ("TEST.WEIGHT", weight, "OUTPUT_DIR", str(tmp_path / "test"), "TEST.FEATURES", "mine.npz")
    run_test(toy_config(*pairs), ARGS)
    written = json.loads((tmp_path / "test" / "metrics.json").read_text())
    task = RetrievalTask.load(tmp_path / "test" / "mine.npz")
    assert [(len(query), len(gallery), rule) for query, gallery, rule in task] == [(6, 12, "cross_camera")]
    told = {
        "dataset": "market1501",
        "model": "toy-vit",
        "weight": weight,
        "size": [32, 16],
        "stride": [8, 8],
        "neck_feature": "before",
        "pixel_mean": [0.485, 0.456, 0.406],
        "pixel_std": [0.229, 0.224, 0.225],
        "resize": "bilinear",
        "augment": "none",
        "seed": 1234,
        "sie": None,
        "orientation": "stored",
        "precision": "float32",
        "normalize": True,
    }
    assert task.info == told
    metrics = evaluate_task(task.normalized())
    assert written.pop("cmc") == metrics.cmc.tolist()
    assert written == told | metrics_record(metrics) | {"rerank": None}
    # The evaluation at the end of training has the same precision.
    evaluated = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert metrics_record(metrics).items() <= evaluated.items()
    # Features are stored as the model gives them: to normalise is the protocol's choice.
    assert not torch.allclose(task.images.features.norm(dim=1), torch.ones(18))


def test_no_features_are_written_on_request(trained, toy_config, tmp_path):
    _, folder = trained("baseline")
    pairs = ("TEST.WEIGHT", str(folder / "toy-vit_2.pth"), "OUTPUT_DIR", str(tmp_path / "test"))
    run_test(toy_config(*pairs, "TEST.FEATURES", ""), ARGS)
    assert {path.name for path in (tmp_path / "test").iterdir()} == {
        "test_log.txt",
        "metrics.json",
        "receipt.json",
    }


def test_re_ranking_in_training_and_testing(trained, toy_config, tmp_path, monkeypatch):
    chosen = {"k1": 4, "k2": 2, "lam": 0.2}
    seen = []

    def farthest_first(query, gallery, **settings):
        seen.append(settings)
        return -torch.cdist(query, gallery)

    monkeypatch.setattr("processor.make_evaluation.k_reciprocal_blocks", farthest_first)
    settings = ("TEST.RE_RANKING", True, "TEST.RERANK_K1", 4, "TEST.RERANK_K2", 2, "TEST.RERANK_LAMBDA", 0.2)
    _, folder = trained("baseline", *settings)
    trained_lines = messages(folder / "train_log.txt")
    pairs = ("TEST.WEIGHT", str(folder / "toy-vit_2.pth"), "OUTPUT_DIR", str(tmp_path / "test"))
    run_test(toy_config(*pairs, *settings), ARGS)
    lines = messages(tmp_path / "test" / "test_log.txt")
    assert lines[-7] == "Re-ranking with k1 4, k2 2, lambda 0.2" and lines[-7] in trained_lines
    at = trained_lines.index("Validation Results - Epoch: 2")
    assert lines[-5:] == trained_lines[at + 1 : at + 6] and seen == [chosen, chosen]
    written = json.loads((tmp_path / "test" / "metrics.json").read_text())
    task = RetrievalTask.load(tmp_path / "test" / "features.npz").normalized()
    assert written["rerank"] == chosen
    assert written["mAP"] == evaluate_task(task, rerank=farthest_first).mAP < evaluate_task(task).mAP


def test_re_ranked_numbers_are_those_of_the_library(trained, toy_config, tmp_path):
    _, folder = trained("baseline")
    pairs = ("TEST.WEIGHT", str(folder / "toy-vit_2.pth"), "OUTPUT_DIR", str(tmp_path / "test"))
    run_test(toy_config(*pairs, "TEST.RE_RANKING", True), ARGS)
    written = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert written["rerank"] == {"k1": 50, "k2": 15, "lam": 0.3}
    task = RetrievalTask.load(tmp_path / "test" / "features.npz").normalized()
    expected = evaluate_task(task, rerank=k_reciprocal_distance)
    assert written["mAP"] == expected.mAP and written["cmc"] == expected.cmc.tolist()
