"""Batch norms of several processes, as they are in a run of one."""

import copy

import pytest
import torch
from torch import nn

from utils.batch_norm import WholeBatchNorm, synchronise_batch_norms

CPU = torch.device("cpu")
SHAPES = {nn.BatchNorm1d: (6, 5), nn.BatchNorm2d: (6, 5, 4, 3)}


def drawn(kind):
    """A norm whose weights and statistics matter."""
    norm = kind(5, eps=1e-3, momentum=0.3)
    with torch.no_grad():
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            value.uniform_(0.5, 1.5)
    return norm


def synchronised(norm):
    holder = nn.Sequential(copy.deepcopy(norm))
    synchronise_batch_norms(holder, CPU)
    assert type(holder[0]) is WholeBatchNorm
    return holder[0]


@pytest.mark.parametrize("kind", SHAPES)
def test_evaluation_and_training_alone_are_those_of_torch(kind):
    norm = drawn(kind)
    ours = synchronised(norm)
    images = torch.randn(3, *SHAPES[kind])
    for batch in images[:2]:
        outputs, gradients = [], []
        for each in (norm, ours):
            given = batch.clone().requires_grad_()
            outputs.append(each(given))
            gradients.append(torch.autograd.grad(outputs[-1].square().sum(), [given, each.weight, each.bias]))
        assert torch.equal(*outputs)
        assert all(map(torch.equal, *gradients))
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in norm.state_dict().items())
    norm.eval(), ours.eval()
    assert torch.equal(norm(images[2]), ours(images[2]))
    assert ours.num_batches_tracked == 2


def test_replacing_keeps_names_parameters_and_buffers():
    module = nn.ModuleDict(
        {
            "stem": nn.Sequential(nn.Conv2d(3, 5, 1), drawn(nn.BatchNorm2d)),
            "neck": drawn(nn.BatchNorm1d),
            "text": nn.LayerNorm(5),
        }
    )
    module["neck"].bias.requires_grad_(False)
    module["stem"].eval()
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    states = list(module.state_dict())
    synchronise_batch_norms(module, CPU)
    assert [type(module["stem"][1]), type(module["neck"])] == [WholeBatchNorm] * 2
    assert type(module["stem"][0]) is nn.Conv2d and type(module["text"]) is nn.LayerNorm
    assert list(module.state_dict()) == states
    found = dict(module.named_parameters()) | dict(module.named_buffers())
    assert found.keys() == parameters.keys() | buffers.keys()
    assert all(found[name] is value for name, value in (parameters | buffers).items())
    assert not module["neck"].bias.requires_grad
    assert module["neck"].training and not module["stem"][1].training
    assert (module["neck"].eps, module["neck"].momentum, module["neck"].num_features) == (1e-3, 0.3, 5)


def test_replacing_twice_changes_nothing():
    module = nn.Sequential(drawn(nn.BatchNorm1d))
    synchronise_batch_norms(module, CPU)
    (first,) = module
    synchronise_batch_norms(module, CPU)
    assert module[0] is first


def test_a_model_on_a_gpu_gets_torchs_own():
    module = nn.Sequential(drawn(nn.BatchNorm2d))
    weight = module[0].weight
    synchronise_batch_norms(module, torch.device("cuda"))  # nothing is moved there
    assert type(module[0]) is nn.SyncBatchNorm and module[0].weight is weight


def test_inputs_have_channels():
    with pytest.raises(ValueError, match=r"input of shape \(5,\); allowed: \(B, C, …\)"):
        WholeBatchNorm(5)(torch.zeros(5))
