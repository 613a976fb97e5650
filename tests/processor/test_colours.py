"""Evaluations next to colour histograms, and runs that learn nothing."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from config import cfg, cfg_pcl
from config.load import load_config
from processor.colours import ColourFloor, both, some_identities
from processor.make_watch import colour_floor, usual_reasons
from retrieval import FeatureSet, RetrievalTask, TrialRows, evaluate_task

pytest.importorskip("skimage")


@pytest.fixture
def task(tmp_path):
    """task(features) -> five identities of a colour each in two cameras, with those features."""

    def make(features):
        paths = []
        for pid in range(5):
            for camera in range(2):
                paths.append(str(tmp_path / f"{pid}_{camera}.png"))
                colour = np.random.default_rng(pid).integers(0, 256, (1, 1, 3), dtype=np.uint8)
                Image.fromarray(np.broadcast_to(colour, (12, 6, 3)).copy()).save(paths[-1])
        pids, camids = torch.arange(10) // 2, torch.arange(10) % 2
        rows = torch.arange(0, 10, 2), torch.arange(1, 10, 2)
        trial = TrialRows(rows[0], camids[rows[0]], rows[1], camids[rows[1]])
        return RetrievalTask(FeatureSet(features, pids, camids, paths), (trial,))

    return make


def test_noise_is_below_and_identities_are_not(task):
    floor = ColourFloor(upright=False, seed=1)
    assert floor() == ""
    floor.see(task(torch.randn(10, 4, generator=torch.Generator().manual_seed(0))))
    assert floor().endswith("below the 100.0% of a colour histogram, which learns nothing")
    assert floor().startswith("mAP is ") and " on 10 test images" in floor()
    floor.see(task(torch.eye(5).repeat_interleave(2, dim=0)))
    assert floor() == ""


def test_a_difference_of_less_than_a_query_tells_nothing(task):
    floor, features = ColourFloor(upright=False, seed=1), torch.eye(5).repeat_interleave(2, dim=0)
    features[0] = features[2]  # one of five queries finds another identity first
    floor.see(task(features))
    assert evaluate_task(task(features)).mAP < 1 and floor() == ""


def test_images_are_read_once(task, monkeypatch):
    floor = ColourFloor(upright=False, seed=1)
    given = task(torch.randn(10, 4, generator=torch.Generator().manual_seed(0)))
    floor.see(given)
    first = floor()
    monkeypatch.setattr("processor.colours.colours_of", lambda *args, **options: 1 / 0)
    floor.see(given)
    assert floor() == first != ""


def test_an_image_that_is_gone_ends_the_comparison_once(task, caplog):
    floor, given = ColourFloor(upright=False, seed=1), task(torch.randn(10, 4))
    gone = given.images.paths[3]
    Path(gone).unlink()
    with caplog.at_level(logging.INFO, "transreid"):
        floor.see(given)
        assert not caplog.records  # nothing is read before somebody asks
        assert floor() == floor() == ""
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("evaluations are not compared with colour histograms: ") and gone in line


def test_some_identities_are_whole_ones(task):
    given = task(torch.randn(10, 4))
    part = some_identities(given, seed=3, most=5)
    assert len(part.images) == 4 and len(part.images.pids.unique()) == 2
    (trial,) = part.trials
    for rows, camera in ((trial.query_rows, 0), (trial.gallery_rows, 1)):
        assert part.images.camids[rows].tolist() == [camera] * 2
    assert part.images.pids[trial.query_rows].tolist() == part.images.pids[trial.gallery_rows].tolist()
    assert some_identities(given, seed=3, most=5).images.paths == part.images.paths
    assert len(some_identities(given, seed=3, most=1).images) == 2  # one identity at the least
    assert len(some_identities(given, seed=3).images) == 10


def test_another_data_set_is_not_compared(caplog):
    foreign = load_config(cfg, "", ["DATASETS.NAMES", "market1501", "DATASETS.TEST", "dukemtmc"])
    with caplog.at_level(logging.INFO, "transreid"):
        assert colour_floor(foreign, None) is None
    assert "DATASETS.TEST dukemtmc" in caplog.text


def test_all_listeners_hear():
    heard = []
    assert both(None, None) is None
    both(heard.append, None, heard.append)("task")
    assert heard == ["task", "task"]


def test_reasons_name_keys_and_values():
    plain = usual_reasons(
        load_config(cfg, "", ["SOLVER.STAGE2.BASE_LR", 0.01, "SOLVER.STAGE2.MAX_EPOCHS", 9])
    )
    assert plain[0].startswith("SOLVER.STAGE2.BASE_LR 0.01 is too high or too low")
    assert plain[1] == "SOLVER.STAGE2.MAX_EPOCHS 9 is too low for so few images"
    assert usual_reasons(load_config(cfg, "", ["MODEL.PRETRAIN_CHOICE", "none"]))[0].startswith(
        "MODEL.PRETRAIN_CHOICE is 'none'"
    )
    assert plain[2].startswith("identities or captions are mixed up")
    clusters = ["MODEL.ID_LOSS_WEIGHT", 0.0, "CLUSTER.METHOD", "dbscan", "CLUSTER.EPS", 0.6]
    reasons = usual_reasons(load_config(cfg_pcl, "", clusters))
    assert reasons[2].startswith("clusters mix identities or are too few (CLUSTER.EPS 0.6;")
    assert not any("captions" in reason for reason in reasons)


def test_a_run_at_no_rate_is_warned_once(trained):
    still = ("MAIN.BASE_LR", 1e-12, "MAIN.MAX_EPOCHS", 6, "MAIN.EVAL_PERIOD", 3)
    _, folder = trained("baseline", *still)
    lines = (folder / "train_log.txt").read_text().splitlines()
    (warning,) = [line for line in lines if "seems to learn nothing" in line]
    assert (
        "WARNING: baseline seems to learn nothing: " in warning
        and "MODEL.PRETRAIN_CHOICE is 'none'" in warning
    )


def test_a_run_that_learns_is_not(trained):
    _, folder = trained("baseline", "MAIN.MAX_EPOCHS", 6)
    assert "seems to learn nothing" not in (folder / "train_log.txt").read_text()
