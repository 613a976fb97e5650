"""Modules on their device."""

import pytest
import torch
from torch import nn

from utils.device import move_module, select_device


def test_devices_by_kind_and_index(monkeypatch):
    assert select_device("cpu", "7") == select_device("cuda" if not torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="kind is 'tpu'; allowed: 'cuda'"):
        select_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert [select_device("cuda", "1")] == chosen == [torch.device("cuda", 1)]
    for index in ("2", "-1", "x"):
        with pytest.raises(ValueError, match=f"index is '{index}'; allowed: 0 to 1"):
            select_device("cuda", index)


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
