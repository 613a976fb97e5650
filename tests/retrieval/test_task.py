"""RetrievalTask: who is who in each trial, and the file."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from retrieval import FeatureSet, LabelNames, RetrievalTask, TrialRows, evaluate, evaluate_task
from retrieval.metrics import RetrievalMetrics

NAMES = LabelNames(
    identities={0: "машина35", 7: "a\x1b[0m\udcff"},
    cameras={1: "东门"},
    items={"a\udcff.jpg#0": "a man\x1b[0m with a 红色 bag"},
)
INFO = {"model": "ViT-B-16", "size": [256, 128], "normalize": True, "weight": "ü.pth"}


def images(count=6, seed=0):
    features = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return FeatureSet(
        features, [i // 2 for i in range(count)], [0] * count, [f"{i}.jpg" for i in range(count)]
    )


def rows(query, gallery):
    return TrialRows(
        torch.tensor(query),
        torch.zeros(len(query)).long(),
        torch.tensor(gallery),
        torch.ones(len(gallery)).long(),
    )


def two_trials(info=INFO):
    trials = rows([0, 2, 4], [1, 3, 5]), rows([5, 1], [4, 0, 3])._replace(rule="all")
    return RetrievalTask(images(), trials, info)


def assert_same(task, other):
    assert len(task) == len(other) and task.info == other.info
    for mine, its in zip(task, other, strict=True):
        assert mine.rule == its.rule
        for part, its_part in zip(mine[:2], its[:2], strict=True):
            assert torch.equal(part.features, its_part.features) and part.paths == its_part.paths
            assert part.keys == its_part.keys and part.pictures == its_part.pictures
            assert torch.equal(part.pids, its_part.pids) and torch.equal(part.camids, its_part.camids)


def test_trials_have_their_own_images_and_cameras():
    first, second = two_trials()
    assert first[0].paths == ("0.jpg", "2.jpg", "4.jpg") and first[1].paths == ("1.jpg", "3.jpg", "5.jpg")
    assert second[0].pids.tolist() == [2, 0] and second[1].pids.tolist() == [2, 0, 1]
    assert all(trial.query.camids.unique().tolist() == [0] for trial in (first, second))
    assert all(trial.gallery.camids.unique().tolist() == [1] for trial in (first, second))
    assert (first.rule, second.rule) == ("cross_camera", "all")
    assert torch.equal(second[1].features, images().features[[4, 0, 3]])


def test_rows_in_one_piece_are_not_copied():
    task = RetrievalTask(images(), (rows([0, 1], [2, 3, 4, 5]),))
    ((query, gallery, _),) = task
    assert query.features.data_ptr() == task.images.features.data_ptr()
    assert gallery.features.data_ptr() == task.images.features[2:].data_ptr()


def test_metrics_are_the_mean_over_trials():
    task = two_trials()
    expected = RetrievalMetrics.mean([evaluate(query, gallery, rule=rule) for query, gallery, rule in task])
    got = evaluate_task(task)
    assert got.cmc.tolist() == expected.cmc.tolist()
    assert (got.mAP, got.mINP, got.num_valid) == (expected.mAP, expected.mINP, 5)


def test_named_trials_are_measured_by_themselves(tmp_path):
    task = two_trials()
    named = replace(
        task, trials=tuple(t._replace(name=n) for t, n in zip(task.trials, ("caption", ""), strict=True))
    )
    assert not evaluate_task(task).named
    metrics = evaluate_task(named)
    query, gallery, rule = next(iter(task))
    assert metrics.mAP == evaluate_task(task).mAP
    assert metrics.named.keys() == {"caption"}
    assert metrics.named["caption"].mAP == evaluate(query, gallery, rule=rule).mAP
    for each in (named, named.normalized(), named.with_pictures()):
        each.save(tmp_path / "features.npz")
        loaded = RetrievalTask.load(tmp_path / "features.npz")
        assert [trial.name for trial in loaded.trials] == ["caption", ""]
    assert [trial.name for trial in named.swapped().trials] == ["caption", ""]
    task.save(tmp_path / "features.npz")
    with np.load(tmp_path / "features.npz") as arrays:
        assert "trial_names" not in arrays


def test_normalized_keeps_the_rest():
    task = two_trials()
    unit = task.normalized()
    torch.testing.assert_close(unit.images.features.norm(dim=1), torch.ones(6))
    assert unit.trials == task.trials and unit.info == INFO


@pytest.mark.parametrize("info", [{}, INFO])
@pytest.mark.parametrize("names", [LabelNames(), NAMES])
def test_file_round_trip(tmp_path, info, names):
    task = replace(two_trials(info), names=names)
    task.save(tmp_path / "task.npz")
    assert RetrievalTask.load(tmp_path / "task.npz").names == task.normalized().with_pictures().names == names
    assert_same(RetrievalTask.load(tmp_path / "task.npz"), task)
    again = FeatureSet.load(tmp_path / "task.npz")
    assert torch.equal(again.features, task.images.features) and again.paths == task.images.paths


def test_names_are_what_people_know():
    assert [NAMES.identity(pid) for pid in (-1, 0, 7, 9)] == ["?", "машина35", r"a\x1b[0m\udcff", "9"]
    assert [NAMES.camera(camid) for camid in (-1, 0, 1)] == ["?", "0", "东门"]
    assert LabelNames(identities={9: "x"}).joined(NAMES).identities == {**NAMES.identities, 9: "x"}


def test_items_without_a_picture_have_a_text():
    assert NAMES.text("a\udcff.jpg#0") == r"a man\x1b[0m with a 红色 bag" and NAMES.text("a.jpg") == ""
    other = LabelNames(items={"b.jpg#0": "b"})
    assert NAMES.joined(other).items == {**NAMES.items, **other.items} == (other | NAMES).items
    with pytest.raises(ValueError, match=r"items: key b.jpg#0 is 'b' in one and 'c' in the other"):
        other.joined(LabelNames(items={"b.jpg#0": "c"}))


def test_all_captions_of_a_test_set_fit_into_a_file(tmp_path):
    """ICFG-PEDES has 19,848 of about 200 letters."""
    items = {f"test/0000/0000_002_01_0303morning_{n:06d}_0.jpg#0": f"{n:06d} " * 30 for n in range(19_848)}
    task = replace(two_trials(), names=LabelNames(items=items))
    task.save(tmp_path / "task.npz")
    assert RetrievalTask.load(tmp_path / "task.npz").names.items == items


def test_texts_that_no_reader_would_take_are_left_out(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("retrieval.features.MAX_NAMES", 200)
    names = LabelNames(identities=NAMES.identities, items={str(n): "x" * 50 for n in range(4)})
    replace(two_trials(), names=names).save(tmp_path / "task.npz")
    stored = RetrievalTask.load(tmp_path / "task.npz").names
    assert stored.identities == names.identities and not stored.items
    (told,) = caplog.messages
    assert "texts of 4 items" in told and told.endswith("allowed: 200")


def test_swapped_queries_are_the_gallery():
    task = two_trials()
    for (query, gallery, rule), swapped in zip(task, task.swapped(), strict=True):
        assert swapped.rule == rule
        for mine, its in ((query, swapped.gallery), (gallery, swapped.query)):
            assert mine.keys == its.keys and torch.equal(mine.camids, its.camids)
            assert torch.equal(mine.features, its.features)
    assert_same(task.swapped().swapped(), task)


def test_the_arrays_of_a_file(tmp_path):
    """What others read with NumPy alone."""
    two_trials().save(tmp_path / "task.npz")
    with np.load(tmp_path / "task.npz", allow_pickle=False) as stored:
        assert stored["query_rows"].tolist() == [0, 2, 4, 5, 1]
        assert stored["query_trials"].tolist() == [0, 0, 0, 1, 1]
        assert stored["gallery_rows"].tolist() == [1, 3, 5, 4, 0, 3]
        assert stored["gallery_camids"].tolist() == [1] * 6
        assert stored["features"].shape == (6, 3) and stored["paths"][1] == stored["keys"][1] == "1.jpg"
        assert stored["rules"].tolist() == ["cross_camera", "all"]


def test_a_file_without_keys_and_rules_has_paths_and_the_cross_camera_rule(tmp_path):
    two_trials().save(tmp_path / "task.npz")
    with np.load(tmp_path / "task.npz") as stored:
        former = {name: stored[name] for name in stored if name not in ("keys", "rules")}
    np.savez(tmp_path / "former.npz", **former)
    task = RetrievalTask.load(tmp_path / "former.npz")
    assert [trial.rule for trial in task] == ["cross_camera"] * 2 and task.images.keys == images().paths


@pytest.mark.parametrize(("rule", "named"), [("cross_camera", (0, 1, 2, 3, 4, 5)), ("all", ())])
def test_only_pictures_that_rules_compare_are_named(monkeypatch, tmp_path, rule, named):
    """Images of unknown camera and the other side of their trial; none where all cameras are known."""
    monkeypatch.setattr("retrieval.features.name_pictures", lambda paths: [f"of {path}" for path in paths])
    first = rows([0, 1, 3], [2, 4, 5])._replace(
        query_camids=torch.tensor([-1, -1, 0]), gallery_camids=torch.tensor([-1, -1, 1]), rule=rule
    )
    second = rows([3], [5])._replace(gallery_camids=torch.tensor([-1]), rule=rule)
    task = RetrievalTask(images(), (first, second)).with_pictures()
    assert task.images.pictures == tuple(f"of {i}.jpg" if i in named else "" for i in range(6))
    known = RetrievalTask(images(), (rows([0, 1], [2, 3])._replace(rule=rule),)).with_pictures()
    assert set(known.images.pictures) == {""}
    task.save(tmp_path / "task.npz")
    assert_same(RetrievalTask.load(tmp_path / "task.npz"), task)


def test_mere_features_are_searched_in_all(tmp_path):
    images().save(tmp_path / "features.npz", {"weight": "a.pth"})
    task = RetrievalTask.load(tmp_path / "features.npz")
    ((query, gallery, _),) = task
    assert query.paths == gallery.paths == images().paths and task.info == {"weight": "a.pth"}
    assert_same(task, RetrievalTask.all_against_all(images(), {"weight": "a.pth"}))


def test_between_two_sets():
    query, gallery = images(3, seed=1), images(4, seed=2)
    ((mine, its, _),) = RetrievalTask.between(query, gallery)
    assert torch.equal(mine.features, query.features) and torch.equal(its.features, gallery.features)
    assert its.paths == gallery.paths and mine.camids.tolist() == [0, 0, 0]
    wide = FeatureSet(torch.zeros(1, 5), [0], [0], ["w"])
    with pytest.raises(ValueError, match="features are 3 and 5 wide"):
        RetrievalTask.between(query, wide)


def test_refuses_no_trial_rows_that_are_not_there_and_unknown_rules():
    with pytest.raises(ValueError, match="at least one trial, got none"):
        RetrievalTask(images(), ())
    with pytest.raises(ValueError, match=r"row 6 of a trial is outside 0\.\.5"):
        RetrievalTask(images(), (rows([0], [1, 6]),))
    with pytest.raises(ValueError, match="rule is 'none'; allowed: cross_camera, all"):
        RetrievalTask.between(images(), images(), rule="none")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"query_rows": [0]}, "query_rows, query_camids, query_trials must be of one length"),
        ({"gallery_rows": [9] * 6}, r"gallery_rows has the number 9; allowed: 0 to 5"),
        ({"info": "{"}, "its info: Invalid JSON"),
        ({"info": "[1]"}, r"its info: it is \[1\].*object"),
        ({"info": '{"size": [256]}'}, r"its info: size is \[256\]"),
        ({"query_trials": [0, 0, 0, 10**7, 1]}, "query_trials has the number 10000000; allowed: 0 to 9999"),
        ({"query_trials": [0, 0, 0, -1, 1]}, "query_trials has the number -1; allowed: 0 to 9999"),
        ({"query_rows": [0.0] * 5}, "query_rows has shape .*float64; allowed: .*integers"),
        ({"paths": [1] * 6}, "paths has shape .*int64; allowed: .*texts"),
        ({"pids": np.full(6, 2**63, np.uint64)}, "pids has the number 9223372036854775808"),
        (
            {f"query_{name}": [0] * 7 for name in ("rows", "camids", "trials")},
            "7 query_rows are of one trial; allowed: up to 6",
        ),
        ({"query_trials": [0] * 5}, "1 trials of queries and 2 of galleries"),
        ({"names": '{"identities": {"a": "b"}}'}, "identities.a"),
        ({"names": '{"cameras": ["x"]}'}, "cameras"),
        ({"names": '{"items": {"x": 1}}'}, "items.x is 1"),
        ({"rules": ["all"]}, "1 rules of 2 trials"),
        ({"rules": ["all", "any"]}, "rule is 'any'; allowed: cross_camera, all"),
    ],
)
def test_load_refuses_other_files(tmp_path, change, told):
    path = tmp_path / "task.npz"
    two_trials().save(path)
    with np.load(path) as stored:
        arrays = dict(stored) | {name: np.array(value) for name, value in change.items()}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=told) as error:
        RetrievalTask.load(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
