"""TorchScript archives give the state dict that torch itself would give, without running them."""

import warnings

import pytest
import torch
from torch import nn

from utils.untrusted.pickles import check_archive
from utils.untrusted.torchscript import read_torchscript


class Module(nn.Module):
    """Holds everything that looks like a weight and is none."""

    def __init__(self):
        super().__init__()
        self.table = torch.zeros(3)
        self.sizes = [1, 2]
        self.tensors = [torch.ones(1)]
        self.names = {"a": 1}
        self.turned = nn.Parameter(torch.arange(6.0).reshape(2, 3).T)
        self.register_buffer("count", torch.tensor(224))
        self.register_buffer("mask", torch.ones(2, 2, dtype=torch.bool), persistent=False)
        self.register_buffer("nothing", torch.zeros(0))
        self.layers = nn.ModuleList([nn.Linear(1, 2), nn.Linear(2, 1)])
        self.again = self.layers[1]
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(x) + self.table


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        yield


@pytest.mark.parametrize(
    "convert", [torch.jit.script, lambda module: torch.jit.trace(module, torch.ones(2, 3), check_trace=False)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.bfloat16])
def test_the_state_dict_is_torchs(tmp_path, convert, dtype):
    path = tmp_path / "w.pt"
    module = Module().eval()
    convert(module).to(dtype).save(path)
    check_archive(path)
    got, want = read_torchscript(path), torch.jit.load(path).state_dict()
    assert list(got) == list(want)
    for key, value in want.items():
        assert torch.equal(got[key], value) and got[key].dtype == value.dtype
        assert got[key].stride() == value.stride()
