"""Extraction in evaluation mode, and evaluation over trials from one extraction."""

import numpy as np
import pytest
import torch
from torch import nn

from datasets import CaptionRecord, ImageBatch, ImageRecord, Trial
from processor import extract, make_task
from processor.evaluation.extract import require_matches
from retrieval import FeatureSet, LabelNames, RetrievalMetrics, evaluate, evaluate_task
from utils.labels import LabelTexts

CPU = torch.device("cpu")


class Tower(nn.Module):
    """Features that tell the images, cameras and views they were made of; its norm would keep statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.calls = 0

    def forward(self, images, camids=None, viewids=None):
        assert not torch.is_grad_enabled() and not self.training
        self.calls += 1
        return self.norm(torch.stack([images.mean((1, 2, 3)), camids.float(), viewids.float()], dim=1))


def batch(first, count):
    ids = torch.arange(first, first + count)
    images = ids.float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return ImageBatch(images, ids // 2, ids % 3, ids % 4, [f"{i}.jpg" for i in ids.tolist()])


def test_extract_keeps_every_image_with_its_labels():
    model = Tower().train()
    features = extract(model, [batch(0, 4), batch(4, 3)], CPU)
    assert isinstance(features, FeatureSet) and model.calls == 2
    scale = (1 + model.norm.eps) ** -0.5
    assert torch.allclose(features.features[:, 0], torch.arange(7.0) * scale)
    assert features.pids.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert features.camids.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert torch.allclose(features.features[:, 1], features.camids * scale)
    assert torch.allclose(features.features[:, 2], torch.arange(7) % 4 * scale)
    assert features.paths == features.keys == tuple(f"{i}.jpg" for i in range(7))
    assert features.features.dtype == torch.float32 and not features.features.requires_grad


def test_extract_leaves_the_model_in_evaluation_mode_and_its_statistics_alone():
    model = Tower().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    extract(model, [batch(0, 4)], CPU)
    assert not model.training and not model.norm.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_extract_with_an_encoder_of_its_own():
    model = Tower()
    features = extract(model, [batch(0, 2)], CPU, encode=lambda batch: batch.images.double().mean((2, 3)))
    assert model.calls == 0 and features.features.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert features.features.dtype == torch.float32


def test_extract_from_nothing():
    with pytest.raises(ValueError, match="no item to extract features from"):
        extract(Tower(), [], CPU)


# ---- trials


def evaluate_trials(features, trials, normalize):
    task = make_task(features, trials, {})
    return evaluate_task(task.normalized() if normalize else task)


def feature_set(count=30, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=generator)
    # Lengths that differ a lot, so that it matters whether they are taken away.
    features *= torch.linspace(0.1, 9, count)[:, None]
    pids = torch.arange(count) % 10
    return FeatureSet(
        features, pids, torch.zeros(count, dtype=torch.long), [f"{i}.jpg" for i in range(count)]
    )


def draw(seed, count=30):
    """A trial as VehicleID has them: one random image of each identity is the gallery, camera 1."""
    rng = np.random.default_rng(seed)
    gallery = {int(rng.choice(np.arange(count)[np.arange(count) % 10 == pid])) for pid in range(10)}

    def record(index):
        return ImageRecord(f"{index}.jpg", index % 10, int(index in gallery), 1)

    return Trial([record(i) for i in range(count) if i not in gallery], [record(i) for i in sorted(gallery)])


def part(features, records):
    rows = [features.paths.index(record.path) for record in records]
    return FeatureSet(
        features.features[rows],
        torch.tensor([record.pid for record in records]),
        torch.tensor([record.camid for record in records]),
        [record.path for record in records],
    )


@pytest.mark.parametrize("normalize", [True, False])
def test_draws_are_averaged_over_one_extraction(normalize):
    features = feature_set()
    trials = [draw(seed) for seed in range(10)]
    got = evaluate_trials(features, trials, normalize)
    used = features.normalized() if normalize else features
    each = [evaluate(part(used, trial.query), part(used, trial.gallery)) for trial in trials]
    assert len({metrics.mAP for metrics in each}) > 3
    assert got.mAP == pytest.approx(np.mean([metrics.mAP for metrics in each]))
    assert got.cmc == pytest.approx(np.mean([metrics.cmc for metrics in each], axis=0))
    assert isinstance(got, RetrievalMetrics) and got.num_valid == 10 * 20


def test_trials_say_which_camera_counts():
    """All images have camera 0 in the extraction; with that, every match would be removed."""
    features = feature_set()
    assert evaluate_trials(features, [draw(0)], False).num_valid == 20
    same = Trial(*([record._replace(camid=0) for record in records] for records in draw(0)[:2]))
    with pytest.raises(ValueError, match="none of the 20 queries has an image of its identity"):
        evaluate_trials(features, [same], False)


def test_normalisation_changes_the_ranking_of_scaled_features():
    features, trials = feature_set(), [draw(1)]
    plain, normed = (evaluate_trials(features, trials, normalize) for normalize in (False, True))
    assert plain.mAP != pytest.approx(normed.mAP, abs=1e-3)
    # With the lengths taken away beforehand the switch does nothing.
    unit = features.normalized()
    assert evaluate_trials(unit, trials, True).mAP == pytest.approx(evaluate_trials(unit, trials, False).mAP)
    assert normed.mAP == pytest.approx(evaluate_trials(unit, trials, False).mAP)


def test_features_are_found_by_key_not_by_order():
    features = feature_set()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    assert evaluate_trials(features, [draw(2)], True).mAP == pytest.approx(
        evaluate_trials(features.select(order), [draw(2)], True).mAP
    )


def test_normalize_leaves_the_given_features_alone():
    features = feature_set()
    before = features.features.clone()
    evaluate_trials(features, [draw(0)], True)
    assert torch.equal(features.features, before)


def test_two_captions_of_an_image_are_two_items():
    """A caption that matches its own image, and one nearer to the other person."""
    paths = ["a.jpg", "a.jpg", "a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    captions = [CaptionRecord("a.jpg", 1, text, "", f"a.jpg#{n}") for n, text in enumerate(("red", "blue"))]
    gallery = [ImageRecord(path, pid, -1, 0) for path, pid in zip(paths[2:], (1, 1, 2, 2), strict=True)]
    keys = [record.key for record in (*captions, *gallery)]
    positions = torch.tensor([0.0, 3.1, 0.0, 1.0, 3.0, 4.0])[:, None]
    features = FeatureSet(positions, [1, 1, 1, 1, 2, 2], [-1] * 6, paths, keys)
    for caption, ranks in zip(captions, ([1, 1, 1, 1], [0, 0, 1, 1]), strict=True):
        task = make_task(features, [Trial([caption], gallery, "all")], {})
        assert evaluate_task(task).cmc.tolist() == ranks
        assert not any(task.images.pictures)  # the rule compares none
        assert task.names.items == {caption.key: caption.caption}
    require_matches([Trial(captions, gallery, "all"), Trial(captions, gallery[:1], "all")])
    with pytest.raises(ValueError, match="none of the 2 queries has an image of its identity among"):
        require_matches([Trial(captions, gallery[2:], "all")])


def test_a_key_of_two_features_is_named():
    features = feature_set().select([*range(30), 7])
    with pytest.raises(ValueError, match=r"2 features have the key 7\.jpg"):
        make_task(features, [draw(0)], {})


def test_a_task_has_the_labels_as_written():
    first, second = draw(0), draw(1)
    records = [
        [record._replace(texts=LabelTexts(f"p{record.pid}", "门" if record.camid else "")) for record in part]
        for part in first[:2]
    ]
    names = make_task(feature_set(), [Trial(*records), second], {}).names
    assert names == LabelNames(identities={pid: f"p{pid}" for pid in range(10)}, cameras={1: "门"})
    assert make_task(feature_set(), [second], {}).names == LabelNames()


def test_an_image_has_one_identity():
    trial = draw(0)
    other = trial.query[0]._replace(pid=77, texts=LabelTexts("x77"))
    with pytest.raises(ValueError, match=rf"{other.path} has identity x77 and identity {trial.query[0].pid}"):
        make_task(feature_set(), [Trial([other], trial.gallery)], {})


IDENTITIES, CAMERAS = "; identities are the reason: ", "; cameras are the reason: "


@pytest.mark.parametrize(
    ("query", "gallery", "reason"),
    [
        ([(1, 0)], [(1, 1)], ""),
        ([(1, 0), (3, 0)], [(1, 0)], f"{CAMERAS}1 queries .*, such as q0.jpg and g0.jpg"),
        ([(1, 0)], [(2, 1), (-1, 1)], f"{IDENTITIES}1 known .*q0.jpg.* 1 known .*g0.jpg"),
        ([(-1, 0)], [(-1, 1)], f"{IDENTITIES}0 known .* 0 known"),
        ([(1, 0), (2, 0)], [(2, 1), (1, 0)], ""),
        ([(1, -1)], [(1, -1)], ""),  # unknown cameras are not removed
        ([(1, 0)], [(1, -1)], ""),
        ([(1, -1)], [(2, -1)], IDENTITIES),
    ],
)
def test_trials_without_a_match_are_found_beforehand(query, gallery, reason):
    """As evaluation would find, but before the hours of training."""
    records = [
        [ImageRecord(f"{name}{i}.jpg", *ids, 0) for i, ids in enumerate(part)]
        for name, part in (("q", query), ("g", gallery))
    ]
    trials = [draw(0), Trial(*records)]
    everyone = [record for trial in trials for record in (*trial.query, *trial.gallery)]
    paths, pids = [record.path for record in everyone], [record.pid for record in everyone]
    features = FeatureSet(torch.rand(len(paths), 2), pids, [0] * len(paths), paths)
    for check in (lambda: require_matches(trials), lambda: evaluate_trials(features, trials[1:], False)):
        if not reason:
            check()
        else:
            told = f"none of the {len(query)} queries has .* {len(gallery)} gallery images{reason}"
            with pytest.raises(ValueError, match=told):
                check()


@pytest.mark.parametrize("own", ["q0.jpg", "copy.jpg"])
def test_the_picture_of_the_query_is_no_match(tmp_path, own):
    for name in ("q0.jpg", "copy.jpg"):
        (tmp_path / name).write_bytes(b"q")
    query, mine, others = (
        ImageRecord(str(tmp_path / name), pid, -1, 0) for name, pid in (("q0.jpg", 1), (own, 1), ("g.jpg", 2))
    )
    with pytest.raises(ValueError, match=r"none of the 1 queries .*: 1 queries find only their own picture"):
        require_matches([Trial([query], [mine, others])])
