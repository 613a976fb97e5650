"""Tools on a feature file of captions and images, in both directions."""

import json

import pytest

from retrieval import (
    RetrievalTask,
    accept_rates,
    evaluate,
    evaluate_task,
    evaluate_text_search,
    k_reciprocal_distance,
    score_pairs,
)
from tests.tools.captions import caption_task
from tools import evaluate as tool
from tools import plots, threshold


@pytest.fixture
def task(tmp_path):
    task = caption_task(tmp_path / "imgs")
    task.save(tmp_path / "features.npz")
    return task


@pytest.fixture
def written(task, tmp_path):
    """written('--swap') -> metrics.json of tools/evaluate.py."""

    def run(*options):
        out = tmp_path / "metrics.json"
        assert tool.main(["--features", str(tmp_path / "features.npz"), "--out", str(out), *options]) == 0
        return json.loads(out.read_text())

    return run


def assert_metrics(written, metrics):
    assert written["cmc"] == metrics.cmc.tolist()
    assert [written[name] for name in ("mAP", "mINP", "num_valid")] == [
        metrics.mAP,
        metrics.mINP,
        metrics.num_valid,
    ]


@pytest.mark.parametrize("swapped", [False, True])
def test_both_directions_are_the_librarys(task, written, swapped):
    ((texts, images, rule),) = task
    query, gallery = (images, texts) if swapped else (texts, images)
    found = written(*["--swap"] * swapped)
    metrics = evaluate_text_search(query.features, gallery.features, query.pids, gallery.pids)
    assert_metrics(found, metrics)
    assert_metrics(found, evaluate(query.normalized(), gallery.normalized(), rule=rule))
    assert 0.1 < metrics.mAP < 0.99 and metrics.num_valid == 6  # nobody describes the fourth person
    assert found.get("swapped", False) is swapped


def test_the_directions_differ(task):
    assert evaluate_task(task.normalized()).mAP != evaluate_task(task.swapped().normalized()).mAP


@pytest.mark.parametrize("swapped", [False, True])
def test_re_ranking_across_modalities(task, written, swapped):
    def rerank(query, gallery):
        return k_reciprocal_distance(query, gallery, k1=4, k2=2, lam=0.3)

    one = task.normalized()
    found = written("--rerank", "--k1", "4", "--k2", "2", *["--swap"] * swapped)
    expected = evaluate_task(one.swapped() if swapped else one, rerank=rerank)
    assert_metrics(found, expected)
    assert expected.mAP != evaluate_task(one.swapped() if swapped else one).mAP


@pytest.mark.parametrize("swapped", [False, True])
def test_thresholds(task, tmp_path, capsys, swapped):
    options = ["--out", str(tmp_path / "out"), "--far", "0.1", "--bootstrap", "20", *["--swap"] * swapped]
    assert threshold.main(["--features", str(tmp_path / "features.npz"), *options]) == 0
    found = json.loads((tmp_path / "out" / "threshold.json").read_text())
    scores = score_pairs((task.swapped() if swapped else task).normalized())
    assert found["auc"] == accept_rates(scores).area()
    assert found["queries"] == (7 if swapped else 6)
    assert found["same_pairs"] == 12 and found["different_pairs"] == 30
    assert "Two items" in capsys.readouterr().out
    assert (tmp_path / "out" / "threshold.png").stat().st_size > 10_000


def test_curves(written, tmp_path, capsys):
    written("--swap")
    out = tmp_path / "cmc.png"
    assert plots.main(["cmc", "--out", str(out), f"images to texts={tmp_path / 'metrics.json'}"]) == 0
    assert out.stat().st_size > 10_000


def test_captions_are_searched_in_a_second_file(task, tmp_path, capsys):
    ((texts, images, _),) = task
    texts.save(tmp_path / "texts.npz")
    images.save(tmp_path / "images.npz")
    files = ["--features", str(tmp_path / "texts.npz"), "--gallery", str(tmp_path / "images.npz")]
    assert tool.main([*files, "--out", str(tmp_path / "m.json")]) == 0
    assert RetrievalTask.load(tmp_path / "texts.npz").names == task.names
    assert json.loads((tmp_path / "m.json").read_text())["num_valid"] == 6
