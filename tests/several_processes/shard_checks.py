"""What each of several processes checks of an optimizer whose state is divided; test_shard.py starts it."""

import copy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
import torch
from torch import nn

from config import cfg_base
from config.load import load_config
from processor.engine.finite import is_finite, not_finite
from processor.engine.resume import _load_optimizer
from solver import make_optimizer
from solver.sharded import ShardedOptimizer
from utils.distributed import from_first, gather_objects, is_first, process_group, world_size

ADAM = {"lr": 0.1, "fused": True, "betas": (0.9, 0.95), "eps": 1e-7}
KINDS = {
    torch.optim.Adam: ADAM,
    torch.optim.AdamW: ADAM,
    torch.optim.SGD: {"lr": 0.1, "fused": True, "momentum": 0.9},
}


def make_model(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 8, 2), nn.Flatten(), nn.Linear(8, 6), nn.Linear(6, 2))
    model[0].to(memory_format=torch.channels_last)
    return model


def make_groups(model):
    """Weights and biases, which learn at twice the rate."""
    named = list(model.named_parameters())
    weights, biases = ([p for n, p in named if n.endswith("bias") == is_bias] for is_bias in (False, True))
    return [
        {"params": weights, "lr_scale": 1.0, "weight_decay": 0.01},
        {"params": biases, "lr_scale": 2.0, "weight_decay": 0.0},
    ]


def pair(kind=torch.optim.Adam):
    """Two equal models, each with an optimizer: torch's own, and one whose state is divided."""
    one, other = make_model(), make_model()
    plain = kind(make_groups(one), **KINDS[kind])
    return (one, plain), (other, ShardedOptimizer(make_groups(other), kind, **KINDS[kind]))


def backward(model, step, scale=1.0):
    images = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(step))
    loss = model(images).square().sum()
    (loss * scale).backward()
    return loss


def train(model, optimizer, first, last):
    for step in range(first, last):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (step + 1) * group["lr_scale"]
        optimizer.zero_grad(set_to_none=True)
        assert all(parameter.grad is None for parameter in model.parameters())
        assert is_finite(backward(model, step), optimizer)
        optimizer.step()


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def held(optimizer):
    """Numbers in the state that this process holds."""
    return sum(value.numel() for state in optimizer.state.values() for value in state.values())


def check_the_key_asks_for_it():
    for word, kind in (("none", torch.optim.Adam), ("zero1", ShardedOptimizer)):
        config = load_config(cfg_base, "", ["SOLVER.SHARD", word])
        assert type(make_optimizer(config, make_model().named_parameters())) is kind


def check_steps_and_states_are_those_of_torch():
    for kind in KINDS:
        (one, plain), (other, sharded) = pair(kind)
        train(one, plain, 0, 3)
        train(other, sharded, 0, 3)
        assert same_weights(one, other) and not same_weights(one, make_model())
        parts = gather_objects(held(sharded))
        assert sum(parts) == held(plain) and max(parts) < held(plain)
        before, state = held(sharded), sharded.state_dict()
        assert not is_first() or same(state, plain.state_dict())
        assert held(sharded) == before and not sharded._all_state_dicts


def check_a_state_goes_on_anywhere():
    (one, plain), (other, sharded) = pair()
    train(one, plain, 0, 2)
    train(other, sharded, 0, 2)
    saved = from_first(sharded.state_dict())
    (alone, mine), (several, ours) = pair()
    for model, optimizer in ((alone, mine), (several, ours)):
        model.load_state_dict(one.state_dict())
        # As last.pt has it: without settings.
        groups = [{"params": group["params"]} for group in saved["param_groups"]]
        _load_optimizer(optimizer, copy.deepcopy({"state": saved["state"], "param_groups": groups}))
        assert [group["lr_scale"] for group in optimizer.param_groups] == [1.0, 2.0]
        train(model, optimizer, 2, 4)
    train(one, plain, 2, 4)
    assert same_weights(one, alone) and same_weights(one, several)
    assert sum(gather_objects(held(ours))) == held(plain)
    again = ours.state_dict()
    assert not is_first() or same(again, plain.state_dict())


def check_an_optimizer_without_a_step():
    (_, plain), (_, sharded) = pair()
    state = sharded.state_dict()
    assert not is_first() or same(state, plain.state_dict())


def check_one_parameter_for_all_processes():
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    plain = torch.optim.Adam([{"params": weights[:1]}], **ADAM)
    sharded = ShardedOptimizer([{"params": weights[1:]}], torch.optim.Adam, **ADAM)
    for optimizer, weight in zip((plain, sharded), weights, strict=True):
        weight.grad = torch.ones(3)
        optimizer.step()
    assert torch.equal(*weights) and weights[0][0] < 1
    assert sorted(gather_objects(held(sharded))) == [0] * (world_size() - 1) + [held(plain)]


def check_a_gradient_scaler_leaves_out_a_step_in_all_processes():
    (one, plain), (other, sharded) = pair()
    train_scaled(one, plain)
    train_scaled(other, sharded)
    assert same_weights(one, other)


def train_scaled(model, optimizer):
    """Three steps, of which the second has an infinite gradient."""
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step, spoilt in enumerate((False, True, False)):
        optimizer.zero_grad(set_to_none=True)
        loss = backward(model, step, scaler.scale(torch.ones(())))
        if spoilt:
            model[2].weight.grad[0, 0] = torch.inf
        assert is_finite(loss, optimizer) == (not spoilt)
        before = copy.deepcopy(model)
        scaler.step(optimizer)
        scaler.update()
        assert same_weights(before, model) == spoilt
    assert scaler.get_scale() == 4.0


def check_moments_that_overflow_are_found_by_who_has_them():
    _, (model, sharded) = pair()
    backward(model, 0)
    model[2].weight.grad.fill_(1e30)
    sharded.step()
    names = gather_objects(not_finite(model, model, sharded))
    assert sorted(names) == [[]] * (world_size() - 1) + [["exp_avg_sq of 2.weight"]]


if __name__ == "__main__":
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")):
        for name, check in list(globals().items()):
            if name.startswith("check_"):
                check()
