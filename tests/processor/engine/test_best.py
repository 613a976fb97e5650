"""The model of the best evaluation: which epoch it is of, in a new run and in one that goes on."""

import json
import logging

import pytest
import torch
from torch import nn

from processor.engine import BestModel
from processor.make_evaluation import Evaluator
from tests.processor.running import EVERY_STEP, OFTEN, Killed, checkpoints, equal, kill_at_step, last, records

LONGER = ("SOLVER.KEEP_BEST", True, "MAIN.MAX_EPOCHS", 4, "MAIN.BASE_LR", 0.02)


@pytest.fixture
def kept(tmp_path):
    """A tracker of a model with one weight, which a test sets."""
    model = nn.Linear(1, 1, bias=False)
    return model, BestModel(model, tmp_path / "a_best.pth", "test")


def held(tracker):
    return torch.load(tracker.path, weights_only=True)["weight"].item()


def evaluate(model, tracker, epoch, value):
    """Log an evaluation of the model whose weight is its epoch."""
    nn.init.constant_(model.weight, epoch)
    tracker.log({"stage": "a", "epoch": epoch, "rank1": value})


def test_a_higher_value_replaces_the_file_and_an_equal_one_does_not(kept):
    model, tracker = kept
    tracker.log({"stage": "a", "epoch": 1, "loss": 0.1})
    assert not tracker.path.exists() and tracker.state() == {}
    for epoch, value, best in ((1, 0.0, 1), (2, 0.5, 2), (3, 0.5, 2), (4, 0.4, 2), (5, 0.6, 5)):
        evaluate(model, tracker, epoch, value)
        assert held(tracker) == best
    assert tracker.state() == {"value": 0.6, "epoch": 5}


def test_it_goes_back_to_the_best_of_that_time(kept):
    model, tracker = kept
    states = [tracker.state()]
    for epoch, value in ((1, 0.3), (2, 0.5)):
        evaluate(model, tracker, epoch, value)
        states.append(tracker.state())
    tracker.rewind(states[1])
    evaluate(model, tracker, 2, 0.4)
    assert held(tracker) == 2 and tracker.state() == {"value": 0.4, "epoch": 2}
    tracker.rewind(states[0])
    evaluate(model, tracker, 1, 0.1)
    assert held(tracker) == 1


@pytest.mark.parametrize(
    "state", [{"value": "high", "epoch": 1}, {"value": 0.5}, {"value": 0.5, "epoch": -1}]
)
def test_a_damaged_state_is_refused(kept, state):
    with pytest.raises(ValueError, match="best model"):
        kept[1].rewind(state)


@pytest.mark.parametrize(("split", "level"), [("test", logging.WARNING), ("val", logging.INFO)])
def test_the_log_says_which_split_chooses(tmp_path, caplog, split, level):
    with caplog.at_level(logging.INFO, logger="transreid"):
        BestModel(nn.Identity(), tmp_path / "a_best.pth", split).start({}, {})
    (line,) = caplog.records
    assert line.levelno == level and f"the {split} split" in line.getMessage()
    assert "a_best.pth" in line.getMessage() and ("too good" in line.getMessage()) == (split == "test")


def test_the_log_may_call_the_value_otherwise(tmp_path, caplog):
    model = nn.Linear(1, 1, bias=False)
    tracker = BestModel(model, tmp_path / "a_best.pth", "val", label="mean rank1 of caption, caption_zh")
    with caplog.at_level(logging.INFO, logger="transreid"):
        tracker.start({}, {})
        evaluate(model, tracker, 1, 0.5)
        tracker.finish("finished")
    told = [message for message in caplog.messages if "saved" not in message]
    assert len(told) == 3 and all("mean rank1 of caption, caption_zh" in message for message in told)


def test_only_the_first_process_writes(kept, monkeypatch, caplog):
    monkeypatch.setattr("processor.engine.journal.is_first", lambda: False)
    monkeypatch.setattr("processor.engine.best.is_first", lambda: False)
    model, tracker = kept
    tracker.start({}, {})
    evaluate(model, tracker, 1, 0.5)
    assert not [record for record in caplog.records if "will hold" in record.getMessage()]
    assert not tracker.path.exists() and tracker.state() == {"value": 0.5, "epoch": 1}


@pytest.fixture
def ranked(monkeypatch):
    """ranked([0.1, …]) replaces the Rank-1 of the following evaluations; toys are all too good."""

    def give(values):
        values, evaluate = iter(values), Evaluator.__call__

        def ranked(self):
            report = evaluate(self)
            return report._replace(values=report.values | {"rank1": next(values)})

        monkeypatch.setattr(Evaluator, "__call__", ranked)

    return give


@pytest.mark.parametrize("recipe", ["baseline", "clipreid", "pcl"])
def test_it_is_the_checkpoint_of_the_epoch_with_the_highest_rank1(trained, ranked, recipe):
    ranked([0.2, 0.5, 0.5, 0.1])
    _, folder = trained(recipe, *OFTEN, *LONGER)
    files = checkpoints(folder)
    assert equal(files["toy-vit_best.pth"], files["toy-vit_2.pth"])
    assert not equal(files["toy-vit_best.pth"], files["toy-vit_3.pth"])
    cards = [json.loads((folder / f"toy-vit_{name}.json").read_text()) for name in ("best", 2)]
    assert cards[0] == cards[1]
    assert last(folder)["trackers"]["best model"] == {"value": 0.5, "epoch": 2}
    log = (folder / "train_log.txt").read_text()
    assert "WARNING" in log and "chosen by test results" in log
    assert "toy-vit_best.pth: rank1 0.5000, epoch 2\n" in log


def test_nothing_is_kept_without_the_key(trained):
    _, folder = trained("baseline", *OFTEN)
    assert set(checkpoints(folder)) == {"toy-vit_1.pth", "toy-vit_2.pth"}
    assert "chosen by test results" not in (folder / "train_log.txt").read_text()


def test_a_run_that_goes_on_compares_with_the_evaluations_before(trained, ranked, monkeypatch):
    ranked([0.9, 0.8, 0.7, 0.6])
    with monkeypatch.context() as context, pytest.raises(Killed):
        kill_at_step(context, 5)
        trained("baseline", *OFTEN, *EVERY_STEP, *LONGER)
    _, folder = trained("baseline", *OFTEN, *EVERY_STEP, *LONGER, resume=True)
    files = checkpoints(folder)
    assert [line["rank1"] for line in records(folder)] == [0.9, 0.8, 0.7, 0.6]
    assert equal(files["toy-vit_best.pth"], files["toy-vit_1.pth"])
