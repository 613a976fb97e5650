"""Seeds make draws repeat; deterministic kernels train."""

import os
import random

import numpy as np
import pytest
import torch
from torch import nn

from utils.seed import seed_everything


@pytest.fixture(autouse=True)
def former_state(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    benchmark = torch.backends.cudnn.benchmark
    yield
    seed_everything(0)
    torch.backends.cudnn.benchmark = benchmark
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def draws():
    return random.random(), np.random.rand(), torch.rand(1).item()


@pytest.mark.parametrize("seed", [0, 1234, 2**40])
def test_draws_repeat(seed):
    seed_everything(seed)
    first = draws()
    assert draws() != first
    seed_everything(seed)
    assert draws() == first
    seed_everything(seed + 1)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def switches():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )


def test_deterministic_and_back():
    seed_everything(1, deterministic=True)
    assert switches() == (True, True, False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.utils.deterministic.fill_uninitialized_memory
    seed_everything(1)
    assert switches() == (False, False, True)
    assert torch.utils.deterministic.fill_uninitialized_memory  # torch's default


def test_a_workspace_of_the_user_stays(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    seed_everything(1, deterministic=True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def trained():
    """A few steps with the operations of training: patches, norms, positions, losses, gathered rows."""
    seed_everything(7, deterministic=True)
    conv, norm, neck = nn.Conv2d(3, 8, 4, stride=2), nn.BatchNorm2d(8), nn.BatchNorm1d(8)
    table, attention = nn.Embedding(5, 8), nn.MultiheadAttention(8, 2, batch_first=True)
    positions = nn.Parameter(torch.randn(1, 8, 3, 3))
    modules = [conv, norm, neck, table, attention]
    optimizer = torch.optim.Adam([positions, *(p for m in modules for p in m.parameters())])
    labels = torch.tensor([0, 1, 1, 4])
    for _ in range(3):
        maps = norm(conv(torch.randn(4, 3, 16, 16)))
        maps = maps + nn.functional.interpolate(positions, size=maps.shape[2:], mode="bilinear")
        tokens, _ = attention(*[maps.flatten(2).transpose(1, 2)] * 3)
        features = neck(tokens[:, 0] + nn.functional.avg_pool2d(maps, 7).flatten(1) + table(labels))
        distances = torch.cdist(features, features) + 1e-3
        hardest = distances.masked_fill(labels[:, None] != labels, -1).max(dim=1).values
        sums = torch.zeros(5, 8).index_add(0, labels, features)
        loss = nn.functional.cross_entropy(features, labels, label_smoothing=0.1) + hardest.mean()
        optimizer.zero_grad()
        (loss + sums.square().mean()).backward()
        nn.utils.clip_grad_norm_([positions], 1.0)
        optimizer.step()
    return [value.clone() for module in modules for value in module.state_dict().values()]


def test_training_runs_and_repeats():
    assert all(torch.equal(a, b) for a, b in zip(trained(), trained(), strict=True))
