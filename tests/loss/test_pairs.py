"""Losses of pairs against naive loops, numbers worked out by hand and those of the published system."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from loss import citc_loss, nitc_loss, ritc_loss, simclr_loss

PIDS = [[0, 1, 0, 2], [0, 1, 2, 3], [5, 5, 5, 5]]


def unit_rows(count, seed, width=5):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=generator, dtype=torch.float64))


def waves(a, b, c, rows=4, width=5):
    """(4, 5) of sin(a i + b j + c), its rows of unit length."""
    angles = a * torch.arange(rows)[:, None] + b * torch.arange(width) + c
    return F.normalize(angles.double().sin())


def softmax(values):
    largest = max(values)
    powers = [math.exp(value - largest) for value in values]
    return [power / sum(powers) for power in powers]


def products(a, b, scale=1.0):
    return [[scale * float(row @ other) for other in b] for row in a]


def share(pids, i, j):
    """1 / matches where i and j have one identity, else 0."""
    return (pids[i] == pids[j]) / pids.count(pids[i])


def naive_nitc(image, text, pids, scale, alpha, soft_image, soft_text):
    total = 0.0
    for one, other, soft_one, soft_other in (
        (image, text, soft_image, soft_text),
        (text, image, soft_text, soft_image),
    ):
        logits, soft_logits = products(one, other, scale), products(soft_one, soft_other, scale)
        for i in range(len(pids)):
            prediction, soft = softmax(logits[i]), softmax(soft_logits[i])
            for j in range(len(pids)):
                label = alpha * soft[j] + (1 - alpha) * share(pids, i, j)
                total -= label * math.log(prediction[j]) / len(pids)
    return total / 2


def naive_ritc(image, text, pids, scale, eps):
    total = 0.0
    for one, other in ((image, text), (text, image)):
        for i, logits in enumerate(products(one, other, scale)):
            for j, p in enumerate(softmax(logits)):
                total += p * (math.log(p) - math.log(share(pids, i, j) + eps)) / len(pids)
    return total / 2


def naive_citc(image, text, inmodal, crossmodal):
    total = 0.0
    for i in range(len(image)):
        for j in range(len(image)):
            within = float(image[i] @ image[j]) - float(text[i] @ text[j])
            across = float(image[i] @ text[j]) - float(image[j] @ text[i])
            total += inmodal * within**2 + crossmodal * across**2
    return total / len(image) ** 2


def naive_simclr(a, b, temperature):
    views, total = [*a, *b], 0.0
    for i, view in enumerate(views):
        others = [j for j in range(len(views)) if j != i]
        shares = softmax([float(view @ views[j]) / temperature for j in others])
        total -= math.log(shares[others.index((i + len(a)) % len(views))])
    return total / len(views)


# ---- naive loops


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("pids", PIDS)
def test_nitc_naive(pids, alpha, scale):
    image, text, soft_image, soft_text = (unit_rows(4, seed) for seed in range(4))
    loss = nitc_loss(
        *(image, text, torch.tensor(pids), torch.tensor(scale)),
        **{"soft_weight": alpha, "soft_image": soft_image, "soft_text": soft_text},
    )
    wanted = naive_nitc(image, text, pids, scale, alpha, soft_image, soft_text)
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    own = nitc_loss(image, text, torch.tensor(pids), torch.tensor(scale), soft_weight=torch.tensor(alpha))
    assert own.item() == pytest.approx(naive_nitc(image, text, pids, scale, alpha, image, text), rel=1e-6)


@pytest.mark.parametrize("eps", [0.01, 0.5])
@pytest.mark.parametrize("pids", PIDS)
def test_ritc_naive(pids, eps):
    image, text = unit_rows(4, 0), unit_rows(4, 1)
    loss = ritc_loss(image, text, torch.tensor(pids), torch.tensor(12.0), eps=eps)
    assert loss.item() == pytest.approx(naive_ritc(image, text, pids, 12.0, eps), rel=1e-6)


@pytest.mark.parametrize("weights", [(0.25, 0.25), (1.0, 0.0), (0.0, 2.0)])
def test_citc_naive(weights):
    image, text = unit_rows(4, 0), unit_rows(4, 1)
    loss = citc_loss(image, text, inmodal_weight=weights[0], crossmodal_weight=weights[1])
    assert loss.item() == pytest.approx(naive_citc(image, text, *weights), rel=1e-9)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_simclr_naive(count):
    a, b = unit_rows(count, 0), unit_rows(count, 1)
    loss = simclr_loss(a, b, temperature=0.5)
    assert loss.item() == pytest.approx(naive_simclr(a, b, 0.5), rel=1e-9, abs=1e-9)


# ---- numbers by hand


def test_numbers_by_hand():
    image, text, soft = waves(0.7, 1.3, 0.2), waves(0.9, 1.1, 0.4), waves(0.9, 1.1, 0.5)
    pids, scale = torch.tensor([0, 1, 0, 2]), torch.tensor(10.0)
    for alpha, wanted in ((0.0, 2.5224853), (0.3, 1.8959463), (0.5, 1.4782536)):
        loss = nitc_loss(image, text, pids, scale, soft_weight=alpha, soft_text=soft)
        assert loss.item() == pytest.approx(wanted, abs=1e-6)
    assert ritc_loss(image, text, pids, scale).item() == pytest.approx(0.5709636, abs=1e-6)
    assert citc_loss(image, text).item() == pytest.approx(0.0321556, abs=1e-7)
    assert simclr_loss(image, text).item() == pytest.approx(0.2990028, abs=1e-6)


def test_ritc_falls_to_its_bound_where_predictions_are_certain():
    """Labels with epsilon sum to more than 1: at a one-hot prediction the loss is -log(1 + eps)."""
    features = torch.eye(4)
    loss = ritc_loss(features, features, torch.arange(4), torch.tensor(100.0), eps=0.01)
    assert loss.item() == pytest.approx(-math.log(1.01), rel=1e-4)


# ---- gradients


def test_labels_pass_no_gradient():
    image, text, soft_image, soft_text = (unit_rows(4, seed).requires_grad_() for seed in range(4))
    pids, scale = torch.tensor([0, 1, 0, 2]), torch.tensor(10.0, requires_grad=True)
    soft = {"soft_image": soft_image, "soft_text": soft_text}
    nitc_loss(image, text, pids, scale, soft_weight=0.5, **soft).backward()
    assert soft_image.grad is None and soft_text.grad is None
    # So that of the scale is the one of a cross-entropy whose labels are numbers.
    found, (logits, labels) = scale.grad.clone(), ([], [])
    scale.grad = None
    for one, other, soft_one, soft_other in (
        (image, text, soft_image, soft_text),
        (text, image, soft_text, soft_image),
    ):
        hard = (pids[:, None] == pids).double()
        hard /= hard.sum(dim=1, keepdim=True)
        logits.append(scale * one @ other.T)
        labels.append((0.5 * (10.0 * soft_one @ soft_other.T).softmax(1) + 0.5 * hard).detach())
    sum(F.cross_entropy(*pair) / 2 for pair in zip(logits, labels, strict=True)).backward()
    torch.testing.assert_close(found, scale.grad)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_equal_features_have_finite_gradients(alpha):
    image, text = torch.ones(3, 4, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    pids, scale = torch.tensor([0, 0, 1]), torch.tensor(100.0, requires_grad=True)
    unit = F.normalize(image), F.normalize(text)
    losses = nitc_loss(*unit, pids, scale, soft_weight=alpha), ritc_loss(*unit, pids, scale)
    sum([*losses, citc_loss(*unit), simclr_loss(*unit)]).backward()
    assert all(each.grad.isfinite().all() for each in (image, text, scale))


def test_far_features_are_finite_at_the_largest_scale():
    """At s = 100 a softmax has exact zeros, whose logarithm must not be taken."""
    image = torch.eye(3).requires_grad_()
    text = -torch.eye(3)
    pids, scale = torch.tensor([0, 1, 2]), torch.tensor(100.0)
    losses = nitc_loss(image, text, pids, scale, soft_weight=0.5), ritc_loss(image, text, pids, scale)
    assert losses[0].item() == pytest.approx(0.5 * (100 + math.log(2)) + 0.5 * math.log(2), rel=1e-5)
    sum(losses).backward()
    assert all(loss.isfinite() for loss in losses) and image.grad.isfinite().all()


def test_float32_under_autocast():
    image, text = (unit_rows(6, seed, 32).float().requires_grad_() for seed in range(2))
    pids, scale = torch.arange(6) // 2, torch.tensor(50.0)

    def losses(image, text):
        pair = image, text
        return (
            nitc_loss(*pair, pids, scale, soft_weight=0.5),
            ritc_loss(*pair, pids, scale),
            citc_loss(*pair),
            simclr_loss(*pair),
        )

    wanted = losses(image, text)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(image, text)
        from_halves = losses(image.bfloat16(), text.bfloat16())
    assert all(loss.dtype == torch.float32 for loss in (*found, *from_halves))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
    rounded = losses(image.bfloat16().float(), text.bfloat16().float())
    torch.testing.assert_close(from_halves, rounded, rtol=1e-6, atol=1e-7)


# ---- the published system


def number(case, letter):
    """'nitc_own_s10_a0.5', 'a' -> 0.5."""
    return float(next(part for part in case.split("_") if part.startswith(letter))[1:])


@pytest.fixture
def stored(golden):
    return golden("tbps/losses.npz")


def published_loss(case, image, text, log_scale, stored):
    image, text, pids = F.normalize(image), F.normalize(text), torch.from_numpy(stored["pids"])
    if case.startswith("nitc"):
        soft = {}
        if "given" in case:
            names = "soft_image", "soft_text"
            soft = {name: F.normalize(torch.from_numpy(stored[name])) for name in names}
        return nitc_loss(image, text, pids, log_scale.exp(), soft_weight=number(case, "a"), **soft)
    if case.startswith("ritc"):
        return ritc_loss(image, text, pids, log_scale.exp(), eps=number(case, "e"))
    if case.startswith("citc"):
        inmodal, crossmodal = map(float, case.split("_")[1:])
        return citc_loss(image, text, inmodal_weight=inmodal, crossmodal_weight=crossmodal)
    return simclr_loss(image, text, temperature=number(case, "t"))


@pytest.mark.parametrize(
    "case",
    [
        *("nitc_own_s10_a0", "nitc_own_s100_a0.5", "nitc_given_s10_a0.25", "nitc_given_s100_a1"),
        *("ritc_s10_e0.01", "ritc_s100_e0.001", "citc_0.25_0.25", "citc_1_0", "simclr_t0.1"),
    ],
)
def test_golden(stored, case):
    image, text = (torch.from_numpy(stored[name]).requires_grad_() for name in ("image", "text"))
    log_scale = stored.get(f"{case}_log_scale")
    if log_scale is None and case.startswith("nitc"):
        log_scale = math.log(number(case, "s"))
    inputs = {"image": image, "text": text}
    if log_scale is not None:
        inputs["log_scale"] = torch.tensor(float(log_scale), requires_grad=True)
    loss = published_loss(case, image, text, inputs.get("log_scale"), stored)
    assert loss.item() == pytest.approx(float(stored[case]), rel=2e-5, abs=2e-7)
    for name, gradient in zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True):
        wanted = stored[f"{case}_grad_{name}"]
        assert np.abs(gradient.numpy() - wanted).max() <= 2e-4 * max(np.abs(wanted).max(), 1e-2)
