"""Means over steps of different sizes."""

import math

import pytest
import torch

from utils.meter import Meters

YES, NO = torch.tensor(True), torch.tensor(False)


def test_means_are_weighted_by_samples():
    meters = Meters()
    assert meters.means() == {}
    meters.update({"loss": torch.tensor(1.0, requires_grad=True), "acc": torch.tensor(0.5)}, 3)
    meters.update({"loss": torch.tensor(5.0), "acc": torch.tensor(1.0)}, 1)
    assert meters.means() == {"loss": pytest.approx(2.0), "acc": pytest.approx(0.625)}
    assert meters.samples == 4


def test_steps_that_do_not_count_are_left_out():
    meters = Meters()
    for loss, counts in ((2.0, YES), (math.nan, NO), (math.inf, NO), (4.0, YES)):
        meters.update({"loss": torch.tensor(loss)}, 4, counts)
    assert meters.means() == {"loss": 3.0} and meters.samples == 16


def test_where_no_step_counts_there_is_no_mean():
    meters = Meters()
    meters.update({"loss": torch.tensor(math.inf)}, 4, NO)
    assert math.isnan(meters.means()["loss"])
    meters.update({"loss": torch.tensor(3.0)}, 2, YES)
    assert meters.means() == {"loss": 3.0}


def test_another_one_goes_on_to_the_last_bit(tmp_path):
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(20, generator=generator)
    whole, first, second = Meters(), Meters(), Meters()
    for loss in losses:
        whole.update({"loss": loss}, 3, YES)
    for loss in losses[:7]:
        first.update({"loss": loss}, 3, YES)
    torch.save(first.state_dict(), tmp_path / "meters")
    second.load_state_dict(torch.load(tmp_path / "meters", weights_only=True))
    for loss in losses[7:]:
        second.update({"loss": loss}, 3, YES)
    assert second.means() == whole.means() and second.samples == whole.samples == 60
    assert len(first.state_dict()["sums"]) == 1 and first.samples == 21


def test_nothing_to_go_on_from():
    meters = Meters()
    meters.load_state_dict(Meters().state_dict())
    assert meters.means() == {} and meters.samples == 0
