"""Losses against the published system's numbers and against naive loops."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from config import cfg, cfg_base
from config.load import load_config
from loss import ReIDLoss, batch_hard_triplet, make_loss, supcon_loss
from loss.center import CenterLoss
from model import ReIDOutput


@pytest.fixture
def stored(golden):
    return golden("losses.npz")


def check(loss, source, stored, name):
    """Value within 1e-5 and gradient within 1e-5 of its largest entry."""
    (gradient,) = torch.autograd.grad(loss, source)
    assert loss.item() == pytest.approx(float(stored[name]), rel=1e-5)
    wanted = stored[f"{name}_grad0"]
    assert np.abs(gradient.numpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(("name", "margin"), [("triplet_margin_0.3", 0.3), ("triplet_soft", None)])
def test_triplet_golden(stored, fill, name, margin):
    features = fill("feat", (16, 64), 1).requires_grad_()
    check(batch_hard_triplet(features, torch.from_numpy(stored["labels"]), margin), features, stored, name)


def test_triplet_golden_on_normalised_features(stored, fill):
    features = fill("feat", (16, 64), 1).requires_grad_()
    loss = batch_hard_triplet(F.normalize(features), torch.from_numpy(stored["labels"]), 0.3)
    check(loss, features, stored, "triplet_margin_0.3_normalized")


@pytest.mark.parametrize(("name", "smoothing"), [("label_smooth_ce", 0.1), ("ce", 0.0)])
def test_id_golden(stored, fill, name, smoothing):
    logits = fill("score", (16, 20), 1).requires_grad_()
    loss = ReIDLoss(smoothing=smoothing, triplet_weight=0)
    features = torch.zeros(16, 2)
    terms = loss(ReIDOutput((logits,), (features,), features), torch.from_numpy(stored["labels"]))
    check(terms["id"], logits, stored, name)


def test_supcon_golden(stored, fill):
    text, image = fill("text", (16, 64), 1).requires_grad_(), fill("image", (16, 64), 1)
    pids = torch.from_numpy(stored["supcon_labels"])
    check(supcon_loss(image, text, pids, pids), text, stored, "supcon_i2t")
    check(supcon_loss(text, image, pids, pids), text, stored, "supcon_t2i")


def test_center_golden(stored, fill):
    center = CenterLoss(20, 64)
    center.centers.copy_(fill("centers", (20, 64), 1))
    before = center.centers.clone()
    features, pids = fill("feat", (16, 64), 1), torch.from_numpy(stored["labels"])
    assert center(features, pids).item() == pytest.approx(float(stored["center"]), rel=1e-5)
    center.update(features, pids, rate=1.0)
    gradient = before - center.centers
    assert np.abs(gradient.numpy() - stored["center_grad_centers"]).max() < 1e-5


def naive_triplet(features, pids, margin):
    total = 0.0
    for i in range(len(pids)):
        distance = [max(float((features[i] - other).square().sum()), 1e-12) ** 0.5 for other in features]
        positive = max(d for d, pid in zip(distance, pids, strict=True) if pid == pids[i])
        negatives = [d for d, pid in zip(distance, pids, strict=True) if pid != pids[i]]
        if negatives:
            gap = positive - min(negatives)
            total += math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin)
    return total / len(pids)


@pytest.mark.parametrize("margin", [0.3, None])
@pytest.mark.parametrize("pids", [[0, 0, 0, 1, 2, 2, 3], [4, 4, 4], [1, 2, 3]])
def test_triplet_naive_with_unequal_classes(pids, margin):
    features = torch.randn(len(pids), 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor(pids), margin)
    assert loss.item() == pytest.approx(naive_triplet(features.detach(), pids, margin), rel=1e-4, abs=1e-6)
    loss.backward()
    assert torch.isfinite(features.grad).all()


def test_triplet_of_equal_features_has_finite_gradient():
    features = torch.ones(4, 3, requires_grad=True)
    batch_hard_triplet(features, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(features.grad).all()


def test_supcon_naive_with_different_sets():
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(4, 3, generator=generator), torch.randn(5, 3, generator=generator)
    a_pids, b_pids = torch.tensor([0, 1, 1, 2]), torch.tensor([2, 1, 0, 0, 1])
    total = 0.0
    for i in range(4):
        logits = [float(a[i] @ row) for row in b]
        log_sum = math.log(sum(math.exp(value) for value in logits))
        same = [v - log_sum for v, pid in zip(logits, b_pids, strict=True) if pid == a_pids[i]]
        total -= sum(same) / len(same)
    assert supcon_loss(a, b, a_pids, b_pids).item() == pytest.approx(total / 4, rel=1e-5)


def output_and_pids():
    generator = torch.Generator().manual_seed(3)
    logits = tuple(torch.randn(4, 6, generator=generator) for _ in range(2))
    metric = tuple(torch.randn(4, 5, generator=generator) for _ in range(3))
    return (
        ReIDOutput(logits, metric, metric[2]),
        torch.tensor([0, 0, 5, 5]),
        torch.randn(6, 5, generator=generator),
    )


def test_terms_are_weighted_and_summed(repository):
    output, pids, texts = output_and_pids()
    config = load_config(
        cfg, str(repository / "configs/person/vit_clipreid.yml"), ["MODEL.I2T_LOSS_WEIGHT", "2"]
    )
    terms = make_loss(config, 6)(output, pids, texts)
    assert set(terms) == {"id", "triplet", "i2t"}
    id_loss = sum(F.cross_entropy(logits, pids, label_smoothing=0.1) for logits in output.logits)
    assert terms["id"].item() == pytest.approx(0.25 * id_loss.item())
    assert terms["triplet"].item() == pytest.approx(
        sum(naive_triplet(f, pids, 0.3) for f in output.metric), rel=1e-4
    )
    i2t = F.cross_entropy(output.projected @ texts.T, pids, label_smoothing=0.1)
    assert terms["i2t"].item() == pytest.approx(2 * i2t.item())
    assert set(make_loss(config, 6)(output, pids)) == {"id", "triplet"}


def test_soft_margin_and_no_smoothing_by_key():
    output, pids, _ = output_and_pids()
    config = load_config(cfg_base, "", ["MODEL.NO_MARGIN", "True", "MODEL.IF_LABELSMOOTH", "off"])
    terms = make_loss(config, 6)(output, pids)
    assert terms["triplet"].item() == pytest.approx(
        sum(naive_triplet(f, pids, None) for f in output.metric), rel=1e-4
    )
    assert terms["id"].item() == pytest.approx(sum(F.cross_entropy(x, pids) for x in output.logits).item())


def test_center_loss_by_key_draws_centres_to_features():
    output, pids, _ = output_and_pids()
    config = load_config(cfg_base, "", ["MODEL.METRIC_LOSS_TYPE", "triplet_center"])
    loss = make_loss(config, 6, feature_width=5)
    first = loss(output, pids)["center"]
    assert first.item() == pytest.approx(0.0005 * loss.center(output.metric[1], pids).item())
    for _ in range(20):
        loss(output, pids)
        loss.after_step()
    assert loss(output, pids)["center"] < first
    with pytest.raises(ValueError, match="width"):
        make_loss(config, 6)
