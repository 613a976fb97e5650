"""Modules on their device."""

import pytest
import torch
from torch import nn

from utils.device import move_module


class OnPaper(nn.Conv2d):
    """Goes to every device without leaving the processor."""

    def __init__(self):
        super().__init__(2, 3, 3)
        self.places = []

    def to(self, device=None, **options):
        self.places += [device] if device is not None else []
        return super().to(**options)


@pytest.mark.parametrize(("name", "is_last"), [("cpu", False), ("cuda", True)])
def test_convolutions_have_channels_last_on_a_gpu_alone(name, is_last):
    module, device = OnPaper(), torch.device(name)
    weight = module.weight.clone()
    move_module(module, device)
    assert module.places == [device] and torch.equal(module.weight, weight)
    assert module.weight.is_contiguous(memory_format=torch.channels_last) == is_last
