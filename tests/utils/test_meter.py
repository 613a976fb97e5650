"""Means over steps of different sizes."""

import pytest
import torch

from utils.meter import Meters


def test_means_are_weighted_by_samples():
    meters = Meters()
    assert meters.means() == {}
    meters.update({"loss": torch.tensor(1.0, requires_grad=True), "acc": torch.tensor(0.5)}, 3)
    meters.update({"loss": torch.tensor(5.0), "acc": torch.tensor(1.0)}, 1)
    assert meters.means() == {"loss": pytest.approx(2.0), "acc": pytest.approx(0.625)}
    assert meters.samples == 4
