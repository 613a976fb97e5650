"""What each of several processes checks; test_distributed.py starts it."""

import importlib
import sys
from pathlib import Path

import torch
from torch import nn

from utils.distributed import (
    any_process,
    from_first,
    gather_batch,
    gather_objects,
    gather_rows,
    is_first,
    process_group,
    rank,
    share,
    share_buffers,
    world_size,
)

CPU = torch.device("cpu")


def check_small_facts():
    me, all_of_us = rank(), world_size()
    assert is_first() == (me == 0)
    assert any_process(me == all_of_us - 1, False, True) == [True, False, True]
    assert from_first(f"from {me}") == "from 0"
    assert gather_objects({"me": me}) == [{"me": place} for place in range(all_of_us)]
    parts = gather_objects(list(share(7)))
    assert [index for part in parts for index in part] == list(range(7))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert sum(map(len, gather_objects(list(share(1))))) == 1


def check_rows():
    rows = torch.arange(rank() * 2.0).view(-1, 2)  # none in the first process, one in the second, …
    wanted = torch.cat([torch.arange(place * 2.0).view(-1, 2) for place in range(world_size())])
    assert torch.equal(gather_rows(rows), wanted)
    numbers = torch.full((2,), rank())
    assert torch.equal(gather_batch(numbers), torch.arange(world_size()).repeat_interleave(2))


def check_gradients_are_those_of_the_whole_batch():
    torch.manual_seed(0)
    images = torch.randn(4 * world_size(), 6)
    layer = nn.Linear(6, 3)

    def loss(features):  # of all pairs, so that no part of the batch can do without the others
        return (features @ features.T).softmax(1).square().sum()

    wanted = torch.autograd.grad(loss(layer(images)), list(layer.parameters()))
    parallel = nn.parallel.DistributedDataParallel(layer)
    whole = loss(gather_batch(parallel(images.chunk(world_size())[rank()])))
    whole.backward()
    for parameter, gradient in zip(layer.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-6)


def check_buffers_of_the_first():
    norm = nn.BatchNorm1d(3)
    norm.running_mean.fill_(5.0 + rank())
    share_buffers(norm)
    assert norm.running_mean.tolist() == [5.0] * 3


def check_no_thread_of_the_group_is_left():
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]  # none but on Linux
    assert not any("gloo" in name for name in names)


def main():
    with process_group(CPU):
        check_small_facts()
        check_rows()
        check_gradients_are_those_of_the_whole_batch()
        check_buffers_of_the_first()
        importlib.import_module("torch.distributed.optim")  # where SOLVER.SHARD imports it
        if sys.argv[1:] == ["die"] and rank() == 1:
            raise SystemExit(9)
        gather_objects(0)
    check_no_thread_of_the_group_is_left()


if __name__ == "__main__":
    main()
