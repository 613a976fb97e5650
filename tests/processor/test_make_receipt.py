"""What `receipt.json` says of a training, of a test, and of runs that were ended or went on."""

import argparse
import json
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from config import cfg, cfg_base
from config.load import leaves, load_config
from datasets import make_dataset
from datasets.records import join_training
from processor import make_processor
from processor.make_receipt import describe_data
from retrieval import RetrievalTask, evaluate_task, metric_intervals
from tests.processor.running import EVERY_STEP, Killed, kill_at_step, last, run_test
from utils.files import sha256_of_file
from utils.untrusted.receipts import read_receipt

ARGS = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=False)
EVALUATED = ("MAIN.EVAL_PERIOD", 1)


def receipt_in(folder):
    return read_receipt(folder / "receipt.json")


@pytest.mark.parametrize("recipe", ["baseline", "clipreid", "pcl"])
def test_receipt_of_a_training(trained, recipe):
    config, folder = trained(recipe, *EVALUATED, "SOLVER.SEED", 7)
    receipt = receipt_in(folder)
    assert receipt.test is None
    section = receipt.train
    assert (section.method, section.seed, section.status) == (recipe, 7, "finished")
    assert section.config == json.loads(json.dumps(leaves(config)))
    assert (section.precision, section.processes, section.device) == ("float32", 1, "cpu")
    assert section.versions["torch"] and "command" not in section.versions
    interpreter, *words = shlex.split(section.command)
    assert words == sys.orig_argv[1:] and "/" not in interpreter
    counts = {
        name: (split.images, split.identities, split.cameras) for name, split in section.data.splits.items()
    }
    assert counts == {"train": (8, 4, 2), "query": (6, 3, 2), "gallery": (12, 3, 2)}
    assert section.data.name == "market1501" and section.data.left_out == {}
    assert len({split.sha256 for split in section.data.splits.values()}) == 3
    assert section.seconds > 0 and section.peak_memory > 10**7
    assert section.started.endswith("+00:00")
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert section.metrics == {name: last[name] for name in section.metrics} and "mAP" in section.metrics
    for name in ("mAP", "rank1", "rank5", "rank10", "mINP"):
        low, high = section.intervals[name]
        assert low <= section.metrics[name] <= high


def test_receipt_of_a_test_stands_next_to_that_of_the_training(trained, toy_config):
    _, folder = trained("baseline")
    weight = folder / "toy-vit_2.pth"
    run_test(toy_config("TEST.WEIGHT", str(weight), "TEST.AMP", "bf16"), ARGS)
    receipt = receipt_in(folder)
    assert receipt.train.method == "baseline"
    section = receipt.test
    assert (section.method, section.precision, section.status) == ("clipreid", "bf16", "finished")
    tested = section.weights["test"]
    assert (tested.path, tested.sha256) == (str(weight), sha256_of_file(weight))
    assert tested.card["method"] == "baseline"
    assert section.facts["pixel_mean"] == [0.485, 0.456, 0.406] and section.facts["rerank"] is None
    assert set(section.data.splits) == {"query", "gallery"}
    assert section.data.splits["query"] == receipt.train.data.splits["query"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert section.metrics["mAP"] == metrics["mAP"]


def test_intervals_are_those_of_the_features(trained, toy_config):
    _, folder = trained("baseline")
    run_test(toy_config("TEST.WEIGHT", str(folder / "toy-vit_2.pth")), ARGS)
    task = RetrievalTask.load(folder / "features.npz").normalized()
    expected = metric_intervals(evaluate_task(task).scores)
    assert receipt_in(folder).test.intervals == {name: list(ends) for name, ends in expected.items()}


def test_a_new_training_drops_a_former_test(trained, toy_config):
    _, folder = trained("baseline")
    run_test(toy_config("TEST.WEIGHT", str(folder / "toy-vit_2.pth")), ARGS)
    assert receipt_in(folder).test is not None
    trained("baseline", "SOLVER.SEED", 3)
    receipt = receipt_in(folder)
    assert receipt.test is None and receipt.train.seed == 3


@pytest.fixture
def stopped(trained, toy_config, monkeypatch):
    """stopped(4, KEY, VALUE, …) -> the folder of a run that was killed before its step of this number."""

    def run(number, *pairs, **options):
        with monkeypatch.context() as context, pytest.raises(Killed):
            kill_at_step(context, number)
            trained("baseline", *EVERY_STEP, *pairs, **options)
        return Path(toy_config(*pairs, tree=cfg_base).OUTPUT_DIR)

    return run


def test_a_run_that_goes_on_keeps_its_beginning(trained, stopped):
    folder = stopped(4, *EVALUATED)
    ended = receipt_in(folder).train
    assert ended.status == "failed" and ended.metrics["mAP"] > 0
    saved = last(folder)["trackers"]["receipt.json"]["seconds"]
    trained("baseline", *EVERY_STEP, *EVALUATED, resume=True)
    section = receipt_in(folder).train
    assert section.status == "finished" and section.started == ended.started
    assert section.seconds >= saved > 0


def test_metrics_before_the_kill_are_those_of_the_last_file(trained, stopped):
    """A run that ends without another evaluation has the metrics of the one before it was killed."""
    folder = stopped(4, "MAIN.EVAL_PERIOD", 1)
    before = receipt_in(folder).train
    content = last(folder)["trackers"]["receipt.json"]
    assert content["mAP"] == before.metrics["mAP"]
    assert [content["low mAP"], content["high mAP"]] == before.intervals["mAP"]


def test_a_finished_run_that_is_resumed_leaves_its_receipt(trained):
    _, folder = trained("baseline")
    before = (folder / "receipt.json").read_bytes()
    trained("baseline", resume=True)
    assert (folder / "receipt.json").read_bytes() == before


def test_a_receipt_that_cannot_be_written_is_a_warning(trained, toy_config, tmp_path):
    (tmp_path / "run" / "receipt.json").mkdir(parents=True)
    _, folder = trained("baseline")
    log = (folder / "train_log.txt").read_text()
    assert "no receipt: " in log and "is a folder; allowed: a plain file" in log
    assert (folder / "toy-vit_2.pth").exists()


def test_what_the_data_leave_out_is_counted(trained, market_tree, tmp_path):
    root = shutil.copytree(market_tree, tmp_path / "data")
    gallery = root / "Market-1501-v15.09.15" / "bounding_box_test"
    shutil.copy(next(gallery.glob("*.jpg")), gallery / "-1_c1s1_000001_00.jpg")
    shutil.copy(next(gallery.glob("*.jpg")), gallery / "0011_c1s1_000002_00.png")
    _, folder = trained("baseline", "DATASETS.ROOT_DIR", str(root))
    counts = receipt_in(folder).train.data.left_out
    assert counts["images of identity -1"] == 1 and sum(counts.values()) == 2


def test_weights_that_a_run_starts_from_are_hashed(trained, toy_config, tmp_path):
    _, folder = trained("clipreid")
    stage1 = folder / "toy-vit_stage1_2.pth"
    other = ("OUTPUT_DIR", str(tmp_path / "second"), "MODEL.STAGE1_WEIGHT", str(stage1))
    _, second = trained("clipreid", *other)
    section = receipt_in(second).train
    assert section.weights["stage1"].sha256 == sha256_of_file(stage1)
    assert section.weights["stage1"].card["name"] == "toy-vit"


def test_weights_are_known_after_a_kill(trained, stopped):
    """A run that goes on reads `last.pt` in place of the weights that it has started from."""
    _, first = trained("baseline")
    before = sha256_of_file(first / "toy-vit_2.pth")
    weights = Path(shutil.copy(first / "toy-vit_2.pth", first.parent / "a file.pth"))
    start = ("MODEL.REID_WEIGHT", str(weights))
    folder = stopped(4, *start)
    trained("baseline", *EVERY_STEP, *start, resume=True)
    reid = receipt_in(folder).train.weights["reid"]
    assert (reid.path, reid.sha256) == (str(weights), before)


def test_commits_of_earlier_parts_are_kept(trained, stopped, monkeypatch):
    """Each once, as a run may go on many times; the last part's stands by itself."""
    environment = make_processor.describe_environment

    def at(commit):
        monkeypatch.setattr(
            make_processor, "describe_environment", lambda: environment() | {"commit": commit}
        )

    at("1a")
    folder = stopped(2)
    for commit in ("1a", "2b"):
        at(commit)
        stopped(2, resume=True)
    at("3c, with local changes")
    trained("baseline", *EVERY_STEP, resume=True)
    section = receipt_in(folder).train
    assert (section.commit, section.commits) == ("3c, with local changes", ["1a", "2b"])


def test_the_data_set_that_is_tested_is_named(market_tree, tmp_path):
    """Where it is not the one in training; its release counts, too."""
    root = shutil.copytree(market_tree, tmp_path / "data")
    for name in sorted((root / "Market-1501-v15.09.15/bounding_box_train").glob("*.jpg")):
        (root / "train" / name.name[:4]).mkdir(parents=True, exist_ok=True)
        shutil.copy(name, root / "train" / name.name[:4] / f"{name.stem}_c3.jpg")
    words = ["DATASETS.ROOT_DIR", str(root)]
    other = make_dataset(
        load_config(cfg, "", [*words, "DATASETS.NAMES", "folder", "DATASETS.TEST", "market1501"])
    )
    data = describe_data(other, {})
    assert (data.name, data.tested, data.release) == ("folder", "market1501", "")
    assert describe_data(make_dataset(load_config(cfg, "", words)), {}).tested == ""
    released = replace(make_dataset(load_config(cfg, "", words)), release="V2")
    assert join_training(other.parts, released).release == "market1501 V2"
    assert join_training([released, *other.parts], released).release == "market1501 V2"


def test_fingerprints_of_tests_do_not_depend_on_the_training_set(market_tree, tmp_path):
    """Its cameras have higher numbers than those of a training set that comes before it."""
    root = shutil.copytree(market_tree, tmp_path / "data")
    for number, name in enumerate(sorted((root / "Market-1501-v15.09.15/bounding_box_train").glob("*.jpg"))):
        (root / "train" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        shutil.copy(name, root / "train" / str(number % 2) / f"{number}_c{number % 2 + 3}.jpg")
    words = ["DATASETS.ROOT_DIR", str(root)]
    own = make_dataset(load_config(cfg, "", words))
    other = make_dataset(
        load_config(cfg, "", [*words, "DATASETS.NAMES", "folder", "DATASETS.TEST", "market1501"])
    )
    assert {record.camid for record in own.query} != {record.camid for record in other.query}
    found, expected = (describe_data(each, {}).splits for each in (other, own))
    assert (found["query"], found["gallery"]) == (expected["query"], expected["gallery"])


def test_fingerprints_tell_labels_apart_but_not_orders(market_tree):
    dataset = make_dataset(load_config(cfg, "", ["DATASETS.ROOT_DIR", str(market_tree)]))
    same = replace(dataset, train=dataset.train[::-1])
    assert describe_data(dataset, {}) == describe_data(same, {})
    first, *rest = dataset.train
    other = first._replace(texts=first.texts._replace(identity="9"))
    found = describe_data(replace(dataset, train=[other, *rest]), {}).splits
    assert found["train"].sha256 != describe_data(dataset, {}).splits["train"].sha256
    assert found["query"] == describe_data(dataset, {}).splits["query"]
